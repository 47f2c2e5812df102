"""Errors of Typer, --verbose, --quiet, --log-file and --json, as they reach the two streams."""

import json
import logging
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ser.cache.json_file import read_object
from ser.commands.logs import log, start_logging
from ser.commands.main import cli, main, print_warning
from ser.corpus.errors import Note
from tests.ser.factories import RUN, make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return the folder of a pipeline that has been run."""
    folder = tmp_path_factory.mktemp("cli") / "corpus"
    make_corpus(folder)
    words = [*RUN, "--pipeline", str(folder / "pipeline.yaml")]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    return folder


def call(*words):
    """Call a command in this process; return its streams and exit code."""
    done = CliRunner().invoke(cli, list(map(str, words)), standalone_mode=False)
    assert done.exception is None, done.exception
    return done


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("heasd", "no such command 'heasd'; did you mean 'heads'?"),
        ("heads trian x", "no such command 'trian'; did you mean 'train'?"),
        ("extract --shards 0/2", "no such option: --shards; did you mean --shard?"),
        ("predict a.wav --json", "no such option: --json; did you mean --format json?"),
        ("heads train", "missing argument 'NAMES'; see `ser heads train --help`."),
        ("heads import x --out y", "missing option '--as'; see `ser heads import --help`."),
        (
            "extract --jobs 0",
            "invalid value for '--jobs': it must be greater than or equal to 1; see `ser extract "
            "--help`.",
        ),
        (
            "predict x.wav --device gpu",
            "invalid value for '--device': 'gpu' is not one of 'auto', 'cpu', 'cuda'; see `ser "
            "predict --help`.",
        ),
        (
            "heads train-all --device gpu",
            "invalid value for '--device': 'gpu' is not one of auto, cpu, cuda, cuda:N or mps; see "
            "`ser heads train-all --help`.",
        ),
        (
            "serve --max-mb nan",
            "invalid value for '--max-mb': nan is not above 0 and up to 1,000,000; see `ser serve "
            "--help`.",
        ),
        ("models -v -q", "--verbose and --quiet: give one of them."),
        ("extract --shard 4/4", "--shard 4/4: give it as I/N with I from 0 to N-1, as 0/4."),
    ],
)
def test_a_wrong_call_is_reported_in_one_sentence_and_exit_code_2(
    monkeypatch, capsys, words, sentence
):
    monkeypatch.setattr(sys, "argv", ["ser", *words.split()])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"ser: {sentence}\n")


def test_a_log_file_that_cannot_be_written_is_reported_in_one_sentence(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["ser", "models", "--log-file", str(tmp_path / "no" / "log")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f"ser: --log-file {tmp_path}/no/log: it cannot be written (No such file or directory); "
        "give another file.\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is a device of Linux")
def test_a_full_disk_under_the_log_file_is_named_once_and_the_command_continues():
    done = call("models", "--log-file", "/dev/full")
    assert done.stdout == call("models").stdout
    assert done.stderr == (
        "ser: --log-file /dev/full: it cannot be written (No space left on device); the command "
        "continues without it.\n"
    )


def test_a_group_without_a_command_prints_its_help_to_standard_error():
    for words in ([], ["heads"]):
        done = CliRunner().invoke(cli, words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"Usage: {' '.join(['ser', *words])} ")


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_prints_no_progress_and_verbose_the_details(corpus, place):
    pipeline = ["--pipeline", corpus / "pipeline.yaml"]

    def fit(*flags):
        first, last = (flags, ()) if place == "before" else ((), flags)
        return call(*first, "stack", "fit", *pipeline, *last)

    plain, quiet, verbose = fit(), fit("-q"), fit("--verbose")
    assert plain.stdout == f"{corpus}/run/stack: mean_logits: up to date, skipped\n"
    assert (plain.stderr, quiet.stdout, quiet.stderr) == ("", "", "")
    assert verbose.stdout == plain.stdout
    assert (
        verbose.stderr == f"ser: {corpus}/pipeline.yaml: cache {corpus}/cache, run {corpus}/run\n"
    )
    assert call("stack", "fit", "--force", "-q", *pipeline).stdout == (
        f"{corpus}/run/stack: mean_logits over 2 heads\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--log-file", "FILE", "heads", "list"),
        ("heads", "--log-file", "FILE", "list"),
        ("heads", "list", "--log-file", "FILE"),
        ("--log-file", "FILE", "presets"),
        ("presets", "--log-file", "FILE"),
    ],
)
def test_the_log_file_may_be_named_before_and_after_the_command(corpus, tmp_path, words):
    file = tmp_path / "ser.log"
    pipeline = ["--pipeline", corpus / "pipeline.yaml"] if "heads" in words else []
    call(*(file if word == "FILE" else word for word in words), *pipeline)
    first = file.read_text().splitlines()[0]
    command = "ser heads list" if "heads" in words else "ser presets"
    assert f" DEBUG ser: {command}, called as: " in first


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_leaves_out_notes_but_no_warnings(capsys, quiet):
    start_logging({"quiet": quiet})
    print_warning(Note("made by an older version."), Note)
    log.warning("the disk is nearly full.")
    note = "" if quiet else "ser: made by an older version.\n"
    assert capsys.readouterr() == ("", f"{note}ser: the disk is nearly full.\n")


def test_the_log_file_has_every_line_with_its_time(corpus, tmp_path):
    log = tmp_path / "ser.log"
    pipeline = ["--pipeline", corpus / "pipeline.yaml", "--log-file", log]
    call("extract", "--all", "-q", *pipeline)
    call("stack", "fit", "-q", "--force", *pipeline)
    lines = [line.split(" ", 2)[2] for line in log.read_text().splitlines()]
    logging.getLogger("ser").debug("after the command")
    assert [line.split(": ")[0] for line in lines] == [
        "DEBUG ser",
        "DEBUG ser",
        "DEBUG ser.extract",
        "RESULT ser",
        "DEBUG ser",
        "DEBUG ser",
        "DEBUG ser.stack",
        "RESULT ser",
    ]
    assert lines[3].startswith("RESULT ser: extract  prosody: ")


def test_json_is_all_that_is_on_standard_output(corpus):
    pipeline = ("--pipeline", corpus / "pipeline.yaml")

    def read(*words):
        return json.loads(call(*words, "--json").stdout)

    scores = read("score", *pipeline)
    assert scores == read_object(corpus / "run/report/metrics.json", "")
    heads = read("heads", "list", *pipeline)
    assert [(row["head"], row["features"], row["trained"]) for row in heads] == [
        ("one", ["prosody"], "yes"),
        ("two", ["prosody"], "yes"),
    ]
    assert all(0 <= row["dev_score"] <= 1 and row["metric"] == "macro_f1" for row in heads)
    (feature,) = read("cache", "info", *pipeline)
    assert feature["spec"]["kind"] == "prosody"
    assert {
        key: feature[key] for key in ("feature", "utterances", "shards", "missing", "used")
    } == {
        "feature": "prosody",
        "utterances": 30,
        "shards": 1,
        "missing": 0,
        "used": True,
    }
    report = read("corpus", "check", corpus / "m.csv", "--audio", corpus / "audio")
    assert (report["errors"], report["classes"][0]["class"]) == (0, "angry")
    models = {row["model"]: row for row in read("models")}
    assert models["whisper-large-v3"]["dim"] == 1280


def test_the_presets_as_json():
    rows = {row["preset"]: row for row in json.loads(call("presets", "--json").stdout)}
    assert rows["unicamp"]["description"].endswith(": 5th, macro-F1 0.4094")


def test_a_message_does_not_control_the_terminal(tmp_path, monkeypatch, capsys):
    name = "\x1b[31mred\n\u202e.csv"
    monkeypatch.setattr(sys, "argv", ["ser", "corpus", "check", name])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("ser:  [31mred .csv: there is no such manifest; ")
    start_logging()
    log.warning("\x1b[31mtwo\nlines")
    assert capsys.readouterr().err == "ser:  [31mtwo\nlines\n"
