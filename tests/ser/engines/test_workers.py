"""Tasks in processes of their own: what they answer, and what becomes of those that die."""

import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from ser.corpus.errors import UserError
from ser.engines.workers import Task, environments, run_tasks

ROOT = Path(__file__).parents[3]


def body(tell, folder, what):
    """Do what a test says; the body of the tasks here, run in a process of its own."""
    (Path(folder) / f"{os.getpid()}.pid").touch()
    tell({"saw": what})
    if what == "refuse":
        raise UserError("the model has no such layer.")
    if what == "break":
        raise TypeError("a bug of ours")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "kill once" and len(list(Path(folder).glob("*.pid"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        time.sleep(600)
    sys.stdout.write("what is printed is no answer\n")
    os.write(1, b'["done", "nor what C code prints"]\n')
    return os.environ["OMP_NUM_THREADS"]


def slots(*threads):
    paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return [os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": n} for n in threads]


def answers(folder, *whats, threads="1"):
    environment = slots(threads)
    tasks = [
        Task(what, "tests.ser.engines.test_workers:body", [str(folder), what]) for what in whats
    ]
    return [(a.task.name, a.kind, a.content) for a in run_tasks(tasks, lambda: environment)]


def test_reports_and_results_of_tasks_are_returned_in_order(tmp_path):
    assert answers(tmp_path, "a", "b", threads="3") == [
        ("a", "event", {"saw": "a"}),
        ("a", "done", "3"),
        ("b", "event", {"saw": "b"}),
        ("b", "done", "3"),
    ]
    assert len(list(tmp_path.glob("*.pid"))) == 2


def test_a_mistake_is_its_sentence_and_a_bug_its_traceback(tmp_path):
    _, refused, _, raised = answers(tmp_path, "refuse", "break")
    assert refused == ("refuse", "refused", "the model has no such layer.")
    assert raised[:2] == ("break", "raised")
    assert raised[2].startswith("Traceback") and raised[2].endswith("TypeError: a bug of ours\n")


def test_a_task_whose_process_is_killed_is_run_again_and_given_up_after_three(tmp_path):
    assert [kind for _, kind, _ in answers(tmp_path, "kill once")] == [
        "event",
        "lost",
        "event",
        "done",
    ]
    replies = answers(tmp_path, "kill")
    assert [kind for _, kind, _ in replies] == ["event", "lost"] * 2 + ["event", "died"]
    assert replies[-1] == ("kill", "died", "exit code -9")


def test_slots_may_become_more_and_fewer(tmp_path):
    now = slots("1")
    tasks = [
        Task(str(i), "tests.ser.engines.test_workers:body", [str(tmp_path), "x"]) for i in range(4)
    ]
    threads = []
    with closing(run_tasks(tasks, lambda: now)) as said:
        for answer in said:
            if answer.kind == "done":
                threads.append(answer.content)
                now = [slots("1"), slots("5", "6"), slots("5", "6"), slots("7")][len(threads)]
                break
        for answer in said:
            if answer.kind == "done":
                threads.append(answer.content)
    assert threads[0] == "1" and sorted(threads[1:3]) == ["5", "6"]


def test_closing_stops_what_runs(tmp_path):
    tasks = [Task("x", "tests.ser.engines.test_workers:body", [str(tmp_path), "sleep"])]
    environment = slots("1")
    with closing(run_tasks(tasks, lambda: environment)) as said:
        assert next(said).kind == "event"
        started = time.monotonic()
    assert time.monotonic() - started < 120  # and not the 600 s of its sleep
    [pid] = [int(path.stem) for path in tmp_path.glob("*.pid")]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(9)))
    assert [e["OMP_NUM_THREADS"] for e in environments(4, [])] == ["2"] * 4
    assert [e["OMP_NUM_THREADS"] for e in environments(12, [])] == ["1"] * 12
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [e["OMP_NUM_THREADS"] for e in environments(2, [])] == ["3"] * 2


def bound(send, folder, name):
    """Return the device of this worker; the body of a task."""
    with (Path(folder) / name).open("a") as file:
        file.write(f"{os.environ['CUDA_VISIBLE_DEVICES']}\n")
    time.sleep(0.2)  # so that no worker does all of it
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.usefixtures("warm_workers")
def test_each_worker_sees_its_own_device_and_every_job_runs_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", slots("1")[0]["PYTHONPATH"])
    devices = ["GPU-5d5b", "MIG-c6d4", "MIG-cba6"]
    own = environments(3, devices)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in own] == devices
    body, names = "tests.ser.engines.test_workers:bound", [f"job {i}" for i in range(6)]
    tasks = [Task(name, body, [str(tmp_path), name]) for name in names]
    replies = list(run_tasks(tasks, lambda: own))
    assert sorted((a.task.name, a.kind) for a in replies) == [(name, "done") for name in names]
    assert {a.content for a in replies} == set(devices)
    assert [(tmp_path / a.task.name).read_text() for a in replies] == [
        f"{a.content}\n" for a in replies
    ]
