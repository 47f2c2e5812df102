"""`ser presets`, `ser init` and `ser run --smoke`, as a user calls them."""

import re

from ser.extract.registry import MODELS
from ser.presets import names, preset, written
from tests.ser.factories import PIPELINE, make_corpus, ser


def test_the_list(tmp_path):
    done = ser("presets", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[::2]] == names()
    at = lines.index(
        "unicamp               Interspeech 2025 challenge on MSP-Podcast, eight emotions: 5th, "
        "macro-F1 0.4094"
    )
    assert lines[at + 1] == (
        " " * 22 + "features: whisper hubert wavlm roberta deberta prosody; heads: 12 "
        "cross_modal_gru + random_forest; 165.9 GB of cache for 100 h of audio; wavlm-large: "
        "disputed: MIT or CC BY-SA 3.0; all models allowed in the challenge"
    )


def test_the_columns_of_the_models_are_aligned(tmp_path):
    done = ser("models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (hub,) = {line.index(card.hub, 60) for line, card in zip(lines, MODELS.values(), strict=True)}
    assert {line[hub - 1] for line in lines} == {" "}
    assert "41.7 Hz" in done.stdout


def test_check(tmp_path):
    done = ser("presets", "check", cwd=tmp_path)
    assert done.returncode == 0
    assert "unicamp               valid: 7 features, 12 heads" in done.stdout.splitlines()
    assert len(done.stdout.splitlines()) == len(names())


def test_check_names_what_is_wrong(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from ser.commands.main import cli
    from ser.smoke import catalogue

    def broken(name):
        return preset(name).replace("schedule: cosine", "schedule: cosin")

    monkeypatch.setattr(catalogue, "preset", broken)
    result = CliRunner().invoke(cli, ["presets", "check"], standalone_mode=False)
    assert result.return_value == 1
    assert re.search(r"^unicamp {15}presets/unicamp.yaml:\d+: .*'cosine'", result.output, re.M)
    assert "nu                    valid: 5 features, 4 heads" in result.output


def test_smoke_lists_every_preset_that_cannot_be_run(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from ser.commands.main import cli
    from ser.smoke import catalogue

    text = PIPELINE.replace("{kind: prosody}", "{kind: imported}")
    monkeypatch.setattr(catalogue, "preset", lambda name: text)
    arguments = ["presets", "smoke", "unicamp", "srpol", "--folder", str(tmp_path)]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.return_value == 1
    lines = [line for line in result.output.splitlines() if line.startswith("failed")]
    assert [line.split(":")[0] for line in lines] == ["failed   unicamp", "failed   srpol"]
    assert all("imported features cannot be computed" in line for line in lines)


def test_smoke_refuses_a_folder_in_use_before_it_starts(tmp_path):
    (tmp_path / "ufg").mkdir()
    (tmp_path / "ufg" / "notes.txt").touch()
    done = ser("presets", "smoke", "nu", "ufg", "--folder", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"ser: {tmp_path}/ufg: it is not empty; give a new folder.\n",
    )
    assert not (tmp_path / "nu").exists()
    done = ser("presets", "smoke", "nu", "--folder", "ufg/notes.txt", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"ser: {tmp_path}/ufg/notes.txt: it is a file; give a new folder.\n",
    )


def test_init_writes_an_editable_file_and_names_what_to_edit(tmp_path):
    done = ser("init", "--preset", "ravdess-heads", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pipeline.yaml").read_text() == written("ravdess-heads")
    assert done.stdout == (
        "pipeline.yaml: the preset ravdess-heads; paths in it are relative to it. What to edit "
        "next:\n"
        "  corpus.manifest  the table of your clips; `ser corpus import` writes one\n"
        "  corpus.audio     the folder that its paths are relative to\n"
        "  ${RAVDESS}  export it, or write its value in its place\n"
        "  ${WHISPER_TINY_EN}  export it, or write its value in its place\n"
        "  ${WHISPER_BASE}  export it, or write its value in its place\n"
        "`ser run --smoke --pipeline pipeline.yaml` tries it on made-up data; "
        "`ser run --pipeline pipeline.yaml` runs it.\n"
    )


def test_init_overwrites_only_with_force(tmp_path):
    own = tmp_path / "sub" / "own.yaml"
    assert ser("init", "--preset", "nu", "--out", own, cwd=tmp_path).returncode == 0
    own.write_text("mine")
    refused = ser("init", "--preset", "nu", "--out", own, cwd=tmp_path)
    assert (refused.returncode, refused.stderr) == (
        2,
        f"ser: {own}: already exists; give another `--out`, or `--force`.\n",
    )
    assert own.read_text() == "mine"
    assert ser("init", "--preset", "nu", "--out", own, "--force", cwd=tmp_path).returncode == 0
    assert own.read_text() == written("nu", "own.yaml")


def test_init_of_what_is_not_there(tmp_path):
    done = ser("init", "--preset", "ravdes-tiny", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "ser: there is no preset 'ravdes-tiny'; did you mean 'ravdess-tiny'?\n",
    )
    assert not (tmp_path / "pipeline.yaml").exists()


def test_run_smoke_leaves_nothing_behind(tmp_path):
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)  # there is no corpus of its own
    done = ser("run", "--smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == (
        ["corpus", "extract", "heads", "heads", "stack", "score", "score", "smoke"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]


def test_run_smoke_reports_what_fails(tmp_path):
    (tmp_path / "pipeline.yaml").write_text(PIPELINE.replace("[wce, sml]", "[kld, sml]"))
    text = (tmp_path / "pipeline.yaml").read_text().replace("sad, neutral", "sad, calm")
    (tmp_path / "pipeline.yaml").write_text(text)
    done = ser("run", "--smoke", cwd=tmp_path)
    assert done.returncode == 1
    assert "heads    two: failed" in done.stdout
    assert "need the class 'neutral', which is not among corpus.classes" in done.stdout


def test_init_writes_a_pipeline_for_ones_own_corpus(tmp_path):
    make_corpus(tmp_path, 15)
    done = ser("init", "--manifest", "m.csv", "--out", "mine/p.yaml", cwd=tmp_path)
    first, second, third = done.stdout.splitlines()
    assert (
        done.returncode,
        first.startswith("mine/p.yaml: a pipeline for m.csv; there is no "),
    ) == (
        0,
        True,
    )
    assert second == "Set corpus.audio in it, then run `ser run --pipeline mine/p.yaml`."
    assert third == (
        "Transcripts and text models are for English only; the manifest names no language for "
        "15 of 15 clips."
    )
    assert re.search(
        r"^  manifest: [\x22\x27]\.\./m\.csv[\x22\x27]$",
        (tmp_path / "mine/p.yaml").read_text(),
        re.M,
    )
    both = ser("init", "--manifest", "m.csv", "--preset", "unicamp", cwd=tmp_path)
    assert (both.returncode, both.stderr) == (
        2,
        "ser: give either --preset NAME or --manifest FILE.\n",
    )
