"""What docs/heads.md says of commands and of pipeline.yaml is so."""

import re
from pathlib import Path

import polars as pl
import torch
import yaml

from ser.heads.config import parse_head
from tests.heads.factories import as_published
from tests.ser.factories import PIPELINE, bash, make_corpus, ser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "heads.md").read_text()
SNIPPETS = dict(re.findall(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", PAGE, re.S))


def test_every_snippet_has_a_test():
    assert set(SNIPPETS) == {"heads", "import", "tune"}


def test_the_entries_are_valid():
    entries = yaml.safe_load(SNIPPETS["heads"])["heads"]
    heads = {
        name: parse_head(entries["defaults"] | entries[name])
        for name in entries
        if name != "defaults"
    }
    one, two = heads["medusa-like"].stages
    assert (one.epochs, two.epochs, two.sampler.no_consensus) == (4, 46, 0.125)
    assert heads["medusa-like"].reads == {"votes", "attributes"}


def pipeline(folder, text=PIPELINE):
    make_corpus(folder)
    (folder / "pipeline.yaml").write_text(text.replace("  one:", "  audio:"))
    assert ser("extract", "--all", cwd=folder).returncode == 0


def test_a_search_prints_its_trials_and_goes_on(tmp_path):
    pipeline(tmp_path)
    command = SNIPPETS["tune"].replace("--trials 30", "--trials 2")
    done = bash(command, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["trial 0", "trial 1"]
    assert lines[2] == f"{tmp_path / 'run/tune/audio/best.yaml'}:"
    assert yaml.safe_load("\n".join(lines[3:]))["features"][0]["stride"] in (2, 4, 8)
    done = bash(SNIPPETS["tune"].replace("--trials 30", "--trials 3"), tmp_path)
    assert [line.split(":")[0] for line in done.stdout.splitlines()[:1]] == ["trial 2"]
    assert pl.read_csv(tmp_path / "run/tune/audio/trials.csv").height == 3


def test_wrong_spaces_and_names_are_one_sentence(tmp_path):
    pipeline(tmp_path)
    (tmp_path / "space.yaml").write_text("lr: fast\n")
    for words, sentence in (
        (["audio", "--space", "no.yaml"], "ser: no.yaml: there is no such file; write it, or"),
        (["odio", "--space", "space.yaml"], "there is no head 'odio'; did you mean 'audio'?"),
        (["audio", "--space", "space.yaml"], "ser: lr: a choice is a list of values, or {low: …"),
    ):
        done = ser("heads", "tune", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1


def test_published_weights_become_a_head_of_the_run(tmp_path):
    from ser.heads.architectures.cross_modal_gru import CrossModalGRU
    from ser.heads.options import CrossModalGRUOptions

    module = CrossModalGRU({"speech": 16}, {"logits": 3}, CrossModalGRUOptions(hidden=8))
    torch.save(as_published(module), tmp_path / "best.pt")
    done = bash(SNIPPETS["import"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "weights/best.safetensors: cross_modal_gru, features of speech 16"
    )
    assert done.stdout.endswith(
        "\nwrite `{head: cross_modal_gru, features: [{name: speech}], hidden: 8, loss: [wce], "
        "init: weights/best.safetensors, epochs: 0}`\n"
    )
    entry = "  two: {features: [prosody], init: weights/best.safetensors, epochs: 0}"
    pipeline(tmp_path, re.sub(r"  two:.*", entry, PIPELINE))
    done = ser("heads", "train", "two", cwd=tmp_path)
    assert done.stdout.startswith("heads    two: dev macro-F1"), done.stderr
    assert ", in " in done.stdout
