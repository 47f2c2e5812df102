"""Heads over many processes: the bits of one process, whoever is killed, and as many as fit."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict, astuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import psutil
import pytest

from ser.corpus.errors import UserError
from ser.engines import heads as engine
from ser.engines.heads import RunTraining, Training, train_runs
from ser.engines.memory import MemoryBudget, free_on
from ser.engines.workers import Task, environments, run_tasks
from ser.heads.config import parse_head
from ser.heads.run import train_heads
from ser.pipeline.file import Origin
from tests.ser.factories import RUN, ser
from tests.ser.fragile import is_running, wait_for
from tests.ser.fragile_heads import (
    EPOCHS,
    NAMES,
    job_of,
    logits,
    make_fragile_heads,
    tell,
    untell,
    workers,
)

GB = 10**9


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a pipeline, and the logits and reports of one process without interruption."""
    path = make_fragile_heads(tmp_path_factory.mktemp("whole"))
    before = list(sys.path)
    job = job_of(path)
    reports = [astuple(report)[:5] for report in train_heads(job, NAMES)]
    sys.path[:] = before
    return path, logits(path), reports


@pytest.fixture
def pipeline(whole, tmp_path):
    """Return the pipeline with a run of its own and nobody told anything."""
    path = whole[0]
    untell(path, "*")
    for file in path.parent.glob("*.pid"):
        file.unlink()
    text = path.read_text()
    lines = [f"run: {tmp_path / 'run'}" if x.startswith("run:") else x for x in text.split("\n")]
    path.write_text("\n".join(lines))
    yield path
    untell(path, "*")


def run_of(pipeline):
    return next(x.split()[1] for x in pipeline.read_text().split("\n") if x.startswith("run:"))


def train(pipeline, jobs, names=NAMES, **how):
    training = Training(Origin(str(pipeline)), force=how.pop("force", False))
    return list(train_runs([RunTraining(job_of(pipeline), names, training)], jobs, **how))


def of_heads(whole, *names):
    return {key: rows for key, rows in whole[1].items() if key[0] in names}


def done(reports):
    return sorted((report.name, report.done) for report in reports)


@pytest.mark.slow
def test_a_process_that_starts_from_nothing_trains_to_the_same_bits(whole, pipeline):
    training = asdict(Training(Origin(str(pipeline)), device="cpu"))
    task = Task("one", "ser.engines.heads:train_one", ["one", training])
    *_, answer = run_tasks([task], lambda: environments(1, ()))
    assert (answer.kind, answer.content["done"]) == ("done", "trained")
    assert logits(pipeline, run_of(pipeline), ("one",)) == of_heads(whole, "one")


@pytest.mark.usefixtures("warm_workers")
def test_two_jobs_give_the_bits_of_one_process_and_a_second_run_does_nothing(whole, pipeline):
    heard = []
    reports = train(pipeline, 2, after_epoch=heard.append)
    assert sorted(astuple(report)[:5] for report in reports) == sorted(whole[2])
    assert {report.done for report in reports} == {"trained"}
    assert logits(pipeline, run_of(pipeline)) == whole[1]
    for name in NAMES:
        of_head = [progress for progress in heard if progress.head == name]
        assert [p.epoch for p in of_head] == list(range(1, EPOCHS + 1))
        assert {(p.epochs, p.fold) for p in of_head} == {(EPOCHS, None)}
    assert len(set(workers(pipeline))) == len(NAMES)
    assert os.getpid() not in workers(pipeline)
    assert [r.done for r in train(pipeline, 2)] == ["current"] * len(NAMES)
    assert len(workers(pipeline)) == len(NAMES)


@pytest.mark.usefixtures("warm_workers")
def test_a_killed_worker_goes_on_from_its_checkpoint(whole, pipeline):
    tell(pipeline, "kill", "one")
    heard = []
    reports = train(pipeline, 2, ("one", "two"), after_epoch=heard.append)
    assert done(reports) == [("one", "trained"), ("two", "trained")]
    assert len(workers(pipeline)) == 3
    for name in ("one", "two"):  # no epoch was trained twice: the third was killed before its end
        assert [p.epoch for p in heard if p.head == name] == list(range(1, EPOCHS + 1))
    assert logits(pipeline, run_of(pipeline), ("one", "two")) == of_heads(whole, "one", "two")


@pytest.mark.usefixtures("warm_workers")
def test_a_head_that_kills_every_worker_fails_and_the_others_do_not(whole, pipeline):
    tell(pipeline, "exit", "two")
    reports = {report.name: report for report in train(pipeline, 2, ("one", "two"))}
    assert {name: report.done for name, report in reports.items()} == {
        "one": "trained",
        "two": "failed",
    }
    assert reports["two"].error == (
        "its worker died 3 times (exit code 7); take fewer workers (`--jobs`) if the memory is "
        "short"
    )
    assert len(workers(pipeline)) == 1 + 3
    assert logits(pipeline, run_of(pipeline), ("one",)) == of_heads(whole, "one")


@pytest.mark.usefixtures("warm_workers")
def test_whatever_a_head_of_a_user_raises_is_its_failure(pipeline):
    tell(pipeline, "break", "one")
    tell(pipeline, "memory", "two")
    reports = train(pipeline, 2, ("one", "two"))
    assert {report.done for report in reports} == {"failed"}
    assert {report.error for report in reports} == {"a bug of ours", "out of memory"}


def test_a_mistake_of_the_whole_run_costs_no_worker(pipeline):
    manifest = pipeline.parent / "m.csv"
    text = manifest.read_text()
    try:
        manifest.write_text(text.replace("dev-0", "train-0"))
        with pytest.raises(UserError, match="speaker 'train-0'"):
            train(pipeline, 2)
    finally:
        manifest.write_text(text)
    assert workers(pipeline) == []


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.skipif(not Path("/proc").exists(), reason="it looks for processes in /proc")
@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_a_stopped_train_all_leaves_no_worker_and_goes_on_to_the_same_bits(whole, pipeline, how):
    tell(pipeline, "hold", *NAMES)
    command = [sys.executable, "-P", "-c", "from ser.commands.main import main; main()"]
    words = [*command, "heads", "train-all", "--jobs", "2", "--pipeline", str(pipeline)]
    heads = Path(run_of(pipeline)) / "heads"
    parent = subprocess.Popen(words, cwd=pipeline.parent, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(heads.glob("*/.head.checkpoint"))) == 2, "no two heads began")
    parent.send_signal(how)
    _, said = parent.communicate(timeout=120)
    assert parent.returncode == (130 if how == signal.SIGINT else -how), said
    wait_for(lambda: not any(map(is_running, workers(pipeline))), "a worker goes on")
    assert not list(heads.glob("*/head.json"))

    untell(pipeline, "hold")
    again = ser("heads", "train-all", "--jobs", "1", "--pipeline", pipeline, cwd=pipeline.parent)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("dev macro-F1") == len(NAMES)
    assert logits(pipeline, run_of(pipeline)) == whole[1]
    assert not list(heads.glob("*/.head.checkpoint"))


@pytest.mark.slow
@pytest.mark.usefixtures("warm_workers")
def test_auto_measures_the_first_head_and_says_what_it_chose(whole, pipeline, monkeypatch):
    monkeypatch.setattr(engine, "cores", lambda: 3)
    monkeypatch.setattr(engine, "available_memory", lambda: 64 * GB)
    lines = []
    reports = train(pipeline, None, ("one", "two"), log=lines.append)
    assert done(reports) == [("one", "trained"), ("two", "trained")]
    assert lines[0].startswith("heads    training 2 heads at a time (limits: 2 by ")
    gigabytes = float(lines[0].split("by memory (")[1].split()[0])
    assert 0.05 < gigabytes < 2  # a Python with PyTorch
    assert logits(pipeline, run_of(pipeline), ("one", "two")) == of_heads(whole, "one", "two")


def test_heads_of_more_features_are_trained_first():
    features = {"words": ["a"], "all": ["a", "b", "c"], "frames": ["c"], "both": ["a", "b"]}
    configs = {name: parse_head({"features": read}) for name, read in features.items()}
    run = RunTraining(SimpleNamespace(configs=configs), list(features), Training(Origin("x")), "2/")
    assert [task.name for task in run.tasks()] == ["2/all", "2/both", "2/words", "2/frames"]


def test_one_core_or_one_head_is_trained_in_this_process(pipeline, monkeypatch):
    assert [r.done for r in train(pipeline, None, ["one"])] == ["trained"]
    assert [r.done for r in train(pipeline, 4, ["one", "two"])] == ["current", "trained"]
    monkeypatch.setattr(engine, "cores", lambda: 1)
    assert [r.done for r in train(pipeline, None)] == ["current"] * 2 + ["trained"]
    assert workers(pipeline) == [os.getpid()]


def test_the_budget_is_the_least_of_heads_cores_and_memory(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    budget = MemoryBudget(limit=12, free=20 * GB)
    assert [e["OMP_NUM_THREADS"] for e in budget.slots()] == ["1"]
    assert budget.measure(4 * GB, 0) == (
        "training 4 heads at a time (limits: 12 by heads and cores, 4 by memory (4.00 GB each, "
        "20.0 GB free))"
    )
    assert [e["OMP_NUM_THREADS"] for e in budget.slots()] == ["4"] * 4
    assert budget.measure(3 * GB, 0) == ""
    assert budget.measure(9 * GB, 0).startswith("training 1 head at a time")
    assert len(budget.slots()) == 1
    assert budget.measure(90 * GB, 0) == ""  # still one, whatever it takes
    assert len(budget.slots()) == 1
    unknown = MemoryBudget(limit=12, free=0)
    assert unknown.measure(GB, 0) == "training 12 heads at a time (limits: 12 by heads and cores)"


def test_each_gpu_has_as_many_as_its_free_memory_holds():
    budget = MemoryBudget(limit=12, free=500 * GB, gpus={"0": 24 * GB, "GPU-9f": 8 * GB})
    assert [e["CUDA_VISIBLE_DEVICES"] for e in budget.slots()] == ["0"]
    assert budget.measure(GB, 4 * GB).startswith("training 5 heads at a time (limits: 12 by ")
    places = [e["CUDA_VISIBLE_DEVICES"] for e in budget.slots()]
    assert places == ["0", "GPU-9f", "0", "0", "0"]
    assert budget.measure(GB, 30 * GB).startswith("training 1 head at a time")
    assert [e["CUDA_VISIBLE_DEVICES"] for e in budget.slots()] == ["0"]


def free_memory(send):
    """Return a worker's device and a number for its free memory; the body of a task."""
    gpu = os.environ["CUDA_VISIBLE_DEVICES"]
    if gpu == "GPU-bad":
        raise RuntimeError("no such device")
    return gpu, len(gpu) * GB


@pytest.mark.usefixtures("warm_workers")
def test_the_free_memory_is_asked_of_each_device_alone(monkeypatch):
    paths = f"{Path(__file__).parents[3]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setenv("PYTHONPATH", paths)
    body = "tests.ser.engines.test_heads:free_memory"
    assert free_on(["MIG-12", "MIG-1"], body) == {"MIG-12": 6 * GB, "MIG-1": 5 * GB}
    with pytest.raises(RuntimeError, match=r"^the memory of GPU GPU-bad: Traceback"):
        free_on(["MIG-1", "GPU-bad"], body)


MEMORY = """
import sys, time
import numpy as np
from ser.engines.memory import watch_memory
peak = watch_memory()
before = peak()
mapped = np.memmap(sys.argv[1], np.uint8, "r")
assert mapped.sum() == 200 << 20
time.sleep(0.2)
assert peak() - before < 50 << 20
own, until = np.ones(200 << 20, np.uint8), time.monotonic() + 60
while peak() - before <= 190 << 20 and time.monotonic() < until:
    time.sleep(0.01)
del own
assert peak() - before > 190 << 20
"""


@pytest.mark.skipif(not psutil.LINUX, reason="macOS does not report what is shared")
def test_memory_of_our_own_is_counted_when_it_is_gone_and_pages_of_files_are_not(tmp_path):
    np.ones(200 << 20, np.uint8).tofile(tmp_path / "shard")
    # in a process of its own: this one may keep the memory of earlier tests
    subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path / "shard")], check=True)


def failed_csv(pipeline):
    path = Path(run_of(pipeline)) / "heads" / "failed.csv"
    return dict(pl.read_csv(path).select("head", "error").iter_rows()) if path.exists() else None


def test_failed_heads_are_listed_until_they_are_mended(pipeline):
    tell(pipeline, "memory", "two")
    words = ("--jobs", "1", "--pipeline", pipeline)
    first = ser("heads", "train-all", *words, cwd=pipeline.parent)
    assert first.returncode == 1, first.stderr
    place = Path(run_of(pipeline)) / "heads" / "failed.csv"
    assert first.stdout.endswith(f"heads    1 failed (two), see {place}\n")
    assert failed_csv(pipeline) == {"two": "out of memory"}
    table = ser("heads", "list", "--pipeline", pipeline, cwd=pipeline.parent)
    rows = table.stdout.rpartition("─ \n")[2].splitlines()
    assert [row.split()[4] for row in rows if row.strip()] == ["yes", "failed", "yes"]
    sentence = (
        "head 'two' could not be trained (out of memory); correct the cause and run `ser heads "
        "train two`, or remove it from the file."
    )
    for command in (("stack", "fit"), ("score",)):
        done = ser(*command, "--pipeline", pipeline, cwd=pipeline.parent)
        assert done.returncode == 1
        assert done.stderr == f"ser: {place.parents[1]}: {sentence}\n"
    run = ser(*RUN, "--pipeline", pipeline, cwd=pipeline.parent)
    assert run.returncode == 1, run.stderr
    assert "heads    two: failed after " in run.stdout
    assert run.stdout.endswith(f"stack    not fitted, and nothing scored: {sentence}\n")
    only = ("--set", "stack.heads=[one]", "--pipeline", pipeline)
    assert ser("stack", "fit", *only, cwd=pipeline.parent).returncode == 0
    untell(pipeline, "memory")
    mended = ser("heads", "train", "two", "--pipeline", pipeline, cwd=pipeline.parent)
    assert mended.returncode == 0, mended.stderr
    assert failed_csv(pipeline) is None
