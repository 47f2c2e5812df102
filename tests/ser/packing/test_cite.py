"""`ser cite`: the right entries, each once, and BibTeX that is well formed."""

import json
import re

import pytest
import yaml

from ser.corpus.errors import UserError
from ser.extract.registry import MODELS
from ser.packing import cite as module
from ser.packing.cite import HEADS, KINDS, STACKS, cite, model_keys
from ser.packing.corpora import CITED, corpus_named, describe_corpus
from ser.predict.shelf import SHELF
from ser.version import __version__
from tests.messages import ROOT
from tests.ser.factories import ser

REQUIRED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "misc": {"author", "title"},
}


def run_folder(folder, **sections):
    folder.mkdir(exist_ok=True)
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))
    return folder


def keys(citations):
    return [re.match(r"@\w+\{([\w-]+),", c.bibtex)[1] if c.bibtex else "" for c in citations]


def test_a_run_cites_its_corpus_its_models_and_its_stack_once(tmp_path):
    run = run_folder(
        tmp_path / "run",
        corpus={"manifest": "data/ravdess.parquet", "audio": "/data/clips"},
        plugins=["no_such_module"],  # not imported
        features={
            "transcripts": {"kind": "asr", "model": "whisper-tiny.en"},
            "whisper": {"kind": "whisper", "model": "openai/whisper-tiny.en"},
            "minilm": {"kind": "text", "model": "minilm", "of": "transcripts"},
            "prosody": {"kind": "prosody"},
            "egemaps": {"kind": "opensmile"},
        },
        heads={"defaults": {"head": "mean_mlp"}, "one": {"features": ["minilm"]}},
        stack={"model": "lightgbm"},
    )
    citations = cite(run)
    assert keys(citations) == [
        *("ser", "livingstone2018ravdess", "radford2023robust", "reimers2019sentence"),
        *("wang2020minilm", "eyben2016gemaps", "eyben2010opensmile", "ke2017lightgbm"),
    ]
    assert citations[2].cited_for == ("model openai/whisper-tiny.en",)
    assert f"note = {{Version {__version__}, Apache-2.0}}" in citations[0].bibtex
    assert "year = {2026}" in citations[0].bibtex


def test_what_has_no_entry_is_named(tmp_path):
    run = run_folder(
        tmp_path / "run",
        corpus={"manifest": "data/calls.csv"},
        features={
            "a": {"kind": "speech", "model": "someone/some_model"},
            "b": {"kind": "speech", "model": "/home/me/weights"},
            "c": {"kind": "llm", "model": "gpt-4", "of": "x"},
        },
        heads={"one": {"features": ["a"]}},
    )
    own, published, *unknown = cite(run)
    assert keys([own, published]) == ["ser", "ueda2025improving"]  # the default head's paper
    assert [(c.cited_for[0], c.bibtex) for c in unknown] == [
        ("corpus calls.csv", ""),
        (
            "model someone/some_model",
            "@misc{someone-some_model,\n  title = {{someone/some\\_model}},\n"
            "  howpublished = {\\url{https://huggingface.co/someone/some_model}}\n}\n",
        ),
        ("features.b (a local folder)", ""),
        ("model gpt-4", "@misc{gpt-4,\n  title = {{gpt-4}}\n}\n"),
    ]
    assert "/home/me" not in "".join(map(str, cite(run)))


def test_names_of_a_pipeline_stay_in_their_comment_and_their_title(tmp_path):
    model = r"}} , note={\input{x}} ~^%#&$_" + "\n@misc{y}"
    run = run_folder(
        tmp_path / "run",
        corpus={"manifest": "a\n@misc{evil, title={x}}"},
        features={
            "a\n@b": {"kind": "speech", "model": "/x y"},
            "c": {"kind": "llm", "model": model},
        },
    )
    text = "".join(map(str, cite(run)[1:]))
    assert [line for line in text.splitlines() if line.startswith("%")] == [
        "% corpus a (at)misc{evil, title={x}}",
        "% ser has no entry for it: cite it as its authors ask",
        "% features.a (at)b (a local folder)",
        "% ser has no entry for it: cite it as its authors ask",
        "% model " + model.replace("\n@", " (at)"),
    ]
    (title,) = re.findall(r"^  title = \{\{(.*)\}\}$", text, re.M)
    assert title == (
        r"\textbraceright{}\textbraceright{} , note=\textbraceleft{}\textbackslash{}input"
        r"\textbraceleft{}x\textbraceright{}\textbraceright{} \textasciitilde{}"
        r"\textasciicircum{}\%\#\&\$\_ @misc\textbraceleft{}y\textbraceright{}"
    )


def test_every_model_without_an_entry_has_a_key_of_its_own(tmp_path):
    models = ["a/b-c", "a/B-c", "日本", "???", "ser"]
    features = {f"f{i}": {"kind": "llm", "model": m} for i, m in enumerate([*models, "a/b-c"])}
    run = run_folder(tmp_path / "run", corpus={}, features=features)
    assert keys(cite(run)) == ["ser", "", "a-b-c", "a-b-c-2", "model", "model-2", "ser-2"]
    assert cite(run)[1].cited_for == ("corpus (pipeline.yaml does not name it)",)


@pytest.mark.parametrize(
    "section",
    [
        "corpus: 5",
        "corpus: {manifest: [a]}",
        "features: [1]",
        "features: {a: 3}",
        "features: {a: {model: [a]}}",
        "finetune: text",
        "heads: text",
        "heads: {defaults: 3, b: {head: a}}",
        "heads: {b: {head: [1]}}",
        "stack: {model: [a]}",
    ],
)
def test_a_pipeline_of_another_shape_is_refused(tmp_path, section):
    (tmp_path / "pipeline.yaml").write_text(section)
    with pytest.raises(UserError, match=r"pipeline.yaml:1: \w+.*: it must be ") as error:
        cite(tmp_path)
    assert error.value.exit_code == 2


def test_neither_a_run_nor_a_bundle(tmp_path):
    with pytest.raises(UserError, match=r"neither a run's folder .* nor a bundle"):
        cite(tmp_path)


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_model_of_a_preset_has_an_entry(preset, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    text = re.sub(r"\$\{WHISPER_\w+\}", "openai/whisper-tiny.en", preset.read_text())
    (run / "pipeline.yaml").write_text(text)
    missing = [c.cited_for for c in cite(run) if not c.bibtex or c.bibtex.startswith("@misc{{")]
    assert [c for c in missing if not c[0].startswith("corpus ")] == []


def test_every_model_with_a_short_name_has_an_entry():
    lacking = {card.hub for card in MODELS.values() if not model_keys(card.hub)}
    assert lacking == {"zai-org/GLM-ASR-Nano-2512"}  # no paper: it gets the entry of its hub id


@pytest.mark.parametrize(
    ("name", "corpus"),
    [
        ("CREMA-D", "crema-d"),
        ("MSP-PODCAST-2.0", "msp-podcast"),
        ("emodb4", "emodb"),
        ("esd_en", "esd"),
        ("MESD", "mesd"),
        ("wednesday", None),
        ("audiofiles", None),
        ("calls", None),
    ],
)
def test_a_corpus_is_known_by_its_name(name, corpus):
    assert corpus_named("data", name) == corpus


def test_the_card_describes_the_corpus_that_is_cited():
    assert describe_corpus("m", "RAVDESS").startswith("RAVDESS: acted English speech, 24 actors")
    assert describe_corpus("m", "demo").startswith("Synthetic speech of `ser demo`")
    assert describe_corpus("m", "audiofiles").startswith("Its own documentation describes")


def test_the_demo_cites_its_synthesizer(tmp_path):
    run = run_folder(
        tmp_path / "run", corpus={"manifest": "data/demo/manifest.parquet", "audio": "audio"}
    )
    own, speech = cite(run)
    assert keys([own, speech]) == ["ser", "espeakng"]
    assert speech.cited_for == ("corpus demo",)


def test_a_bundle_cites_the_corpora_of_its_record():
    citations = cite(SHELF)
    assert keys(citations)[:4] == [
        *("ser", "livingstone2018ravdess", "burkhardt2005database", "costantini2014emovo"),
    ]
    assert citations[3].cited_for == ("corpus EMOVO",)


def test_the_entries_are_whole_and_each_belongs_to_something():
    entries = module.read_entries()
    text = (ROOT / "ser" / "packing" / "citations.bib").read_text()
    assert len(entries) == text.count("\n@") + 1
    for entry in entries.values():
        kind = re.match(r"@(\w+)\{", entry)[1]
        fields = set(re.findall(r"^  (\w+) = \{.*\},?$", entry, re.M))
        assert fields >= REQUIRED[kind], entry
        assert entry.count("{") == entry.count("}")
        assert entry.count("},\n") == len(fields) - 1  # every line but the last ends with a comma
        assert entry.isascii()
    used = {"ser", *(key for _, found in module.MODELS for key in found)}
    for table in (CITED, KINDS, STACKS, HEADS):
        used |= {key for found in table.values() for key in found}
    assert used == set(entries)


def test_ser_is_cited_as_its_citation_file_has_it():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    entry = module.read_entries()["ser"]
    assert f"title = {{{citation['title']}}}" in entry
    assert citation["authors"] == [{"name": "The ser authors"}]
    assert "author = {{The ser authors}}" in entry
    assert citation["version"] == __version__


def test_the_command_prints_bibtex_or_json(tmp_path):
    run_folder(
        tmp_path / "run",
        corpus={"manifest": "emodb.csv"},
        features={"prosody": {"kind": "prosody"}},
        stack={"model": "mean_logits"},
    )
    done = ser("cite", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^% (.*)\n@\w+\{([\w-]+),", done.stdout, re.M) == [
        (f"ser {__version__}", "ser"),
        ("corpus emodb", "burkhardt2005database"),
    ]
    printed = json.loads(ser("cite", "run", "--json", cwd=tmp_path).stdout)
    assert [entry["cited_for"] for entry in printed] == [[f"ser {__version__}"], ["corpus emodb"]]
    assert "".join(entry["bibtex"] for entry in printed).count("@") == 2


def test_the_command_without_a_run(tmp_path):
    done = ser("cite", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("ser: .: it is neither a run's folder")
