"""The command line: exit codes, one sentence an error, no torch for help."""

import errno
import json
import os
import shutil
import subprocess
import sys
from types import ModuleType
from unittest.mock import Mock

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

import ser as ser_api
import ser.__main__ as entry
from ser.commands import cache_exchange, heads, main, pack, predict, presets
from ser.corpus.errors import UserError
from ser.predict import folder
from tests.ser.factories import PIPELINE, RUN, make_corpus, ser, ser_process, ser_warm, tone


def test_run_does_everything_and_the_second_skips_everything(tmp_path):
    make_corpus(tmp_path)
    text = PIPELINE.replace("heads:\n", "heads:\n  baseline: false\n")
    (tmp_path / "pipeline.yaml").write_text(text)
    first = ser_warm("run", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "heads    training 2 heads at a time" in first.stdout
    assert first.stdout.endswith(
        "next     ser cv  # the test split has 2 speakers; this tests every speaker once\n"
        "next     ser predict CLIP.wav --run run\nnext     ser serve --run run\n"
    )
    page = tmp_path / "run/report/report.html"
    assert f"report   {page}\n" in first.stdout
    assert "<html" in page.read_text()
    metrics = json.loads((tmp_path / "run/report/metrics.json").read_text())
    assert set(metrics) == {"dev", "test", "crc32c"}
    assert set(metrics["test"]) == {"one", "two", "stack"}
    assert set(metrics["test"]["stack"]) >= {
        "macro_f1",
        "micro_f1",
        "accuracy",
        "uar",
        "per_class",
        "bootstrap",
        "n",
    }
    predictions = pl.read_csv(tmp_path / "run/report/predictions.csv")
    assert predictions.height == 12  # dev and test; the stack predicts train only on request
    again = ser_process("run", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert again.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines()}
    heavy = {"torch", "transformers", "ctranslate2", "sklearn", "scipy", "plotly"}
    assert imported > {"ser.stages.run"} and not imported & heavy
    assert f"report   {page}: up to date, skipped\n" in again.stdout
    for name in ("prosody", "one", "two", "mean_logits"):
        assert f"{name}: up to date" in again.stdout
    assert json.loads((tmp_path / "run/report/metrics.json").read_text()) == metrics


def test_stages_one_by_one_give_what_run_gives(tmp_path):
    make_corpus(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert ser(*RUN, cwd=tmp_path / "a").returncode == 0
    for words in (
        ["extract", "--all"],
        ["heads", "train", "two"],
        ["heads", "train-all"],
        ["stack", "fit"],
        ["score"],
    ):
        assert ser(*words, cwd=tmp_path / "b").returncode == 0
    a, b = (json.loads((tmp_path / x / "run/report/metrics.json").read_text()) for x in ("a", "b"))
    assert a == b
    out = ser("stack", "predict", "--out", "p.csv", cwd=tmp_path / "b")
    assert out.returncode == 0
    assert pl.read_csv(tmp_path / "b" / "p.csv").height == 30


def test_ctrl_c_while_the_command_line_is_imported_is_one_line_and_exit_code_130(
    monkeypatch, capsys
):
    class Interrupted(ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "ser.commands.main", Interrupted("main"))
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 130
    assert capsys.readouterr() == ("", "ser: interrupted.\n")


@pytest.mark.parametrize("words", [("models",), ("corpus", "importers"), ("--help",)])
def test_a_closed_pipe_ends_a_command_with_141_and_no_message(words):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ser", *words]
    done = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


RESUMES = "finished work is kept, and the same command resumes"
STARTS_OVER = "the same command starts over"


@pytest.mark.parametrize(
    ("module", "function", "words", "next_time"),
    [
        (pack, "_show", "pack --show x.ser", STARTS_OVER),
        (cache_exchange, "load_pipeline", "cache export one one.h5", STARTS_OVER),
        (heads, "load_pipeline", "heads train-all", RESUMES),
        (heads, "load_pipeline", "heads train-all --force", STARTS_OVER),
        (folder, "predict_files", "predict clip.wav --out all.csv", RESUMES),
        (predict, "write_results", "predict clip.wav --out all.json", STARTS_OVER),
        (presets, "smoke_one", "presets smoke nu -q", STARTS_OVER),
        (presets, "smoke_one", "presets smoke nu -q --folder x", f"delete x; then {STARTS_OVER}"),
    ],
)
def test_ctrl_c_says_what_the_same_command_does(  # noqa: PLR0917
    monkeypatch, capsys, tmp_path, module, function, words, next_time
):
    def interrupt(*given, **options):
        raise KeyboardInterrupt

    (tmp_path / "clip.wav").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ser_api, "load", lambda *given, **options: Mock(notes=()))
    monkeypatch.setattr(module, function, interrupt)
    monkeypatch.setattr(main, "prepare_process", lambda: None)
    monkeypatch.setattr(sys, "argv", ["ser", *words.split()])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 130
    assert capsys.readouterr() == ("", f"ser: interrupted; {next_time}.\n")


@pytest.mark.parametrize(("force", "kept"), [("", "finished work is kept: "), ("--force", "")])
def test_a_full_disk_says_whether_work_is_kept(monkeypatch, capsys, force, kept):
    def write(*_):
        raise OSError(errno.ENOSPC, "", "run")

    monkeypatch.setattr(heads, "load_pipeline", write)
    monkeypatch.setattr(main, "prepare_process", lambda: None)
    monkeypatch.setattr(sys, "argv", ["ser", "heads", "train-all", *force.split()])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        f"ser: run: the disk is full; {kept}make room and run the same command again.\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run", "pipeline.yaml: cache: {}/file is a file; give a folder."),
        ("run --set cache=c --set run=file/run", "pipeline.yaml: run: {}/file is a file; give a"),
        ("demo --folder file/x", "--folder: {}/file is a file; give a folder."),
        ("init --preset nu --out file/x/p.yaml", "--out: {}/file is a file; give a folder."),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_refused_first(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "pipeline.yaml").write_text(PIPELINE.replace("cache: cache", "cache: file"))
    with pytest.raises(UserError) as error:
        main.cli(words.split(), standalone_mode=False)
    assert str(error.value).startswith(message.format(tmp_path))


def test_closed_standard_streams_are_the_null_device(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    main.open_standard_streams()
    with sys.stdin, sys.stdout, sys.stderr:
        assert sys.stdin.buffer.read() == b""
        assert not sys.stdout.isatty()
        print("nobody reads this", file=sys.stderr)  # noqa: T201


def test_a_gpu_is_looked_for_before_any_work_but_not_for_a_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for words in ("extract --all", "heads train-all", "predict clip.wav", "run", "cv", "serve"):
        done = ser(*words.split(), "--device", "cuda", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (
            2,
            "ser: --device cuda: torch sees no such GPU; use `--device cpu`.\n",
        )
    done = ser("extract", "--all", "--device", "cuda", "--engine", "slurm", cwd=tmp_path)
    assert done.stderr.startswith("ser: pipeline.yaml: there is no such file;")


@pytest.mark.parametrize("command", ["run", "cv"])
def test_a_group_that_is_no_column_is_refused_before_any_work(tmp_path, command):
    make_corpus(tmp_path)
    done = ser(command, "--set", "score.groups=[accent]", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"ser: {tmp_path}/m.csv: there is no column 'accent', which score.groups names; add it to "
        "the manifest or remove it from pipeline.yaml.\n",
    )
    assert not (tmp_path / "cache").exists()


def test_the_end_of_a_file_is_no_interruption(monkeypatch):
    def end(*given):
        raise EOFError("of a bug")

    monkeypatch.setattr(heads, "load_pipeline", end)
    monkeypatch.setattr(main, "prepare_process", lambda: None)
    monkeypatch.setattr(sys, "argv", ["ser", "heads", "list"])
    with pytest.raises(EOFError, match="of a bug"):
        main.main()


def test_bad_audio_costs_its_own_clip_and_exit_code_1(tmp_path):
    frame = make_corpus(tmp_path)
    clips = tmp_path / "audio"
    (clips / "u0.wav").write_text("this is a text file")
    (clips / "u1.wav").write_bytes(b"")
    soundfile.write(clips / "u2.wav", tone(0, 0.01), 16_000)
    soundfile.write(clips / "u3.wav", np.zeros(8000), 16_000)
    soundfile.write(clips / "u4.wav", np.full(8000, np.nan), 16_000, subtype="FLOAT")
    soundfile.write(clips / "u5.wav", np.tile(tone(5, rate=96_000)[:, None], 8), 96_000)
    (clips / "u6.wav").unlink()
    done = ser("extract", "prosody", cwd=tmp_path)
    assert done.returncode == 1
    assert "24 extracted, 0 already cached, 6 failed" in done.stdout
    (failed,) = (tmp_path / "cache").glob("prosody/*/failed.parquet")
    errors = dict(pl.read_parquet(failed).select("utterance", "error").iter_rows())
    assert {u: e.split(": ", 1)[1] for u, e in errors.items()} == {
        "u0": "not audio (Format not recognised)",
        "u1": "empty file (0 bytes)",
        "u2": "shorter than 25 ms",
        "u3": "silent (all samples are zero)",
        "u4": "contains NaN or infinite samples",
        "u6": "no such file",
    }
    soundfile.write(clips / "u0.wav", tone(0), 16_000)
    again = ser("extract", "prosody", cwd=tmp_path)
    assert "1 extracted, 24 already cached, 5 failed" in again.stdout
    run = ser(*RUN, cwd=tmp_path)
    assert run.returncode == 1, run.stderr
    scored = frame.filter(pl.col("split") != "train")["utterance"].to_list()
    predictions = pl.read_csv(tmp_path / "run/report/predictions.csv")
    assert sorted(predictions["utterance"]) == sorted(
        u for u in scored if u not in errors or u == "u0"
    )


def says(result, sentence, code=2):
    assert (result.returncode, result.stderr) == (code, f"ser: {sentence}\n")


def test_wrong_calls_are_reported_in_one_sentence_and_exit_code_2(tmp_path):
    says(
        ser(*RUN, cwd=tmp_path),
        "pipeline.yaml: there is no such file; give one with `--pipeline`, or write one with "
        "`ser init --preset ravdess-tiny`.",
    )
    make_corpus(tmp_path)
    says(
        ser("extract", "wavlm", cwd=tmp_path),
        "pipeline.yaml: there is no feature 'wavlm'; choose from prosody.",
    )
    says(
        ser("heads", "train", "three", cwd=tmp_path),
        "pipeline.yaml: there is no head 'three'; choose from one, two.",
    )
    cache = tmp_path / "cache" / "prosody"
    says(
        ser("heads", "train-all", cwd=tmp_path),
        f"{cache}: feature 'prosody' is not in the cache; run `ser extract prosody` first.",
    )
    missing = ser(*RUN, "--set", "corpus.manifest=no.csv", cwd=tmp_path)
    says(
        missing,
        f"{tmp_path}/no.csv: there is no such manifest; make one with "
        f"`ser corpus import NAME FOLDER --out {tmp_path}/no.csv`.",
    )
    usage = ser("extract", cwd=tmp_path)
    assert usage.returncode == 2
    assert "name features (prosody), or give --model or --all" in usage.stderr


def test_wrong_manifests_are_reported_in_one_sentence(tmp_path):
    frame = make_corpus(tmp_path)
    twice = pl.concat([frame, frame[:1]])
    twice.write_csv(tmp_path / "m.csv")
    says(
        ser("extract", "--all", cwd=tmp_path),
        f"{tmp_path}/m.csv: utterance 'u0' appears more than once (1 such id); give every row a "
        "unique id.",
    )
    shared = frame.with_columns(speaker=pl.lit("ann"))
    shared.write_csv(tmp_path / "m.csv")
    result = ser(*RUN, cwd=tmp_path)
    assert result.returncode == 2
    assert "speaker 'ann'" in result.stderr
    assert result.stderr.count("\n") == 1
    frame.filter(~((pl.col("emotion") == "sad") & (pl.col("split") == "train"))).write_csv(
        tmp_path / "m.csv"
    )
    done = ser(*RUN, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith(
        "stack    not fitted, and nothing scored: head 'one' and 1 more could not be trained "
        "(class 'sad' has no training utterance; remove it from corpus.classes, or add clips of it "
        "to the train split); correct the cause and run `ser heads train one two`, or remove it "
        "from the file.\n"
    )


def test_a_cache_of_another_fingerprint_is_named(tmp_path):
    make_corpus(tmp_path)
    assert ser("extract", "--all", cwd=tmp_path).returncode == 0
    folder = next((tmp_path / "cache" / "prosody").iterdir())
    result = ser("heads", "train-all", "--set", "features.prosody.precision=float32", cwd=tmp_path)
    says(
        result,
        f"{folder}: it was extracted with the default precision, but pipeline.yaml asks for "
        "precision='float32'; run `ser extract prosody`.",
    )


@pytest.mark.slow
def test_one_model_of_the_pipeline_is_extracted(tmp_path):
    make_corpus(tmp_path, count=6)
    text = (tmp_path / "pipeline.yaml").read_text()
    more = "  words: {kind: asr, model: openai/whisper-tiny.en, window: trim}\n"
    (tmp_path / "pipeline.yaml").write_text(text.replace("features:\n", f"features:\n{more}", 1))
    done = ser("extract", "--kind", "prosody", cwd=tmp_path)
    assert (done.returncode, done.stdout.split(";")[0]) == (
        0,
        "extract  prosody: 6 extracted, 0 already cached",
    )
    done = ser("extract", "--model", "whisper-tiny.en", cwd=tmp_path)
    assert (done.returncode, done.stdout.split(";")[0]) == (
        0,
        "extract  words: 6 extracted, 0 already cached",
    )
    says(
        ser("extract", "--model", "wavlm-large", cwd=tmp_path),
        "pipeline.yaml: no feature has model 'wavlm-large' (models of the file: "
        "openai/whisper-tiny.en); add one under `features:`, or give a corpus with `--manifest`.",
    )
    for words in (("--cache", "c"), ("--option", "layer=1"), ("--audio", "audio")):
        done = ser("extract", "--model", "whisper-tiny.en", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert f"{words[0]} goes with --manifest" in done.stderr
    (tmp_path / "pipeline.yaml").unlink()
    done = ser("extract", "--model", "whisper-tiny.en", cwd=tmp_path)
    assert done.returncode == 2
    assert "name one with --pipeline, or a corpus with --manifest" in done.stderr
    words = ["--kind", "prosody", "--manifest", "m.csv", "--audio", "audio"]
    assert ser("extract", *words, cwd=tmp_path).returncode == 0
    assert [path.name for path in (tmp_path / "data" / "cache").iterdir()] == ["prosody"]


def test_a_stage_that_reads_no_audio_needs_no_audio_folder(tmp_path):
    make_corpus(tmp_path)
    text = (tmp_path / "pipeline.yaml").read_text()
    (tmp_path / "pipeline.yaml").write_text(text.replace("audio: audio", "audio: '${SER_CLIPS}'"))
    unset = "corpus.audio: ${SER_CLIPS} is not set; export SER_CLIPS=…"
    says(ser("extract", "--all", cwd=tmp_path), unset)
    assert ser("extract", "--all", cwd=tmp_path, SER_CLIPS="audio").returncode == 0
    for words in (("extract", "--all"), ("heads", "train-all"), ("stack", "fit"), ("score",)):
        done = ser(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    frame = pl.read_csv(tmp_path / "m.csv")
    frame.with_columns(pl.col("utterance") + "x").write_csv(tmp_path / "m.csv")
    says(ser(*RUN, cwd=tmp_path), unset)


def test_a_hub_that_cannot_be_reached_is_reported_in_one_sentence(tmp_path):
    make_corpus(tmp_path)
    words = ["--model", "openai/whisper-large-v3", "--manifest", "m.csv", "--audio", "audio"]
    result = ser_process("extract", *words, "--cache", "c", cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "`hf download openai/whisper-large-v3 --local-dir DIR`" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
def test_a_full_disk_is_reported_in_one_sentence_and_what_is_done_is_kept(tmp_path):
    make_corpus(tmp_path, count=60)
    disk = tmp_path / "disk"
    disk.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=96k", "none", disk]
    if subprocess.run(small, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    full = "the disk is full; finished work is kept: make room and run the same command again."
    try:
        flags = ["--set", "cache=disk"]
        done = ser("extract", "--all", *flags, cwd=tmp_path)
        assert (done.returncode, done.stderr.endswith(f"{full}\n")) == (1, True), done.stderr
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        again = ser("extract", "--all", *flags, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        subprocess.run(["mount", "-o", "remount,size=200k", disk], check=True)
        done = ser("heads", "train", "one", *flags, "--set", "run=disk/run", cwd=tmp_path)
        assert (done.returncode, done.stderr.endswith(f"{full}\n")) == (1, True), done.stderr
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_pipeline_without_heads_extracts_and_stops(tmp_path):
    make_corpus(tmp_path, count=6)
    text = (tmp_path / "pipeline.yaml").read_text()
    (tmp_path / "pipeline.yaml").write_text(text[: text.index("heads:")])
    done = ser(*RUN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("heads    none in the file: nothing to train, stack or score\n")


def test_extract_without_a_pipeline(tmp_path):
    make_corpus(tmp_path)
    words = ["--kind", "prosody", "--manifest", "m.csv", "--audio", "audio", "--cache", "c"]
    result = ser("extract", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("extract  prosody: 30 extracted, 0 already cached")


def test_corpus_check_exits_1_on_errors(tmp_path):
    frame = make_corpus(tmp_path)
    good = ser("corpus", "check", "m.csv", "--audio", "audio", cwd=tmp_path)
    frame.with_columns(speaker=pl.lit("ann")).write_csv(tmp_path / "m.csv")
    bad = ser("corpus", "check", "m.csv", "--audio", "audio", cwd=tmp_path)
    assert (good.returncode, bad.returncode) == (0, 1), good.stdout
    assert "ann" in bad.stdout
