"""Commands that get SIGTERM amid their work commit it, and the next run does none of it again."""

import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from ser.engines.shards import run_shard
from ser.pipeline.file import Origin
from tests.ser import warm
from tests.ser.factories import make_corpus
from tests.ser.finetune.factories import make_pipeline
from tests.ser.fragile import CLIPS, checksums, make_fragile, wait_for, written_once

WITHIN = 10  # seconds: a cloud gives a machine little more
PLUGIN = """\
import time
from pathlib import Path

from ser.heads.training.trainer import Trainer

folder = Path(__file__).parent
own = Trainer._step


def step(*given):
    with (folder / "steps").open("a") as file:
        file.write("step ")
    while (folder / "hold").exists() and (folder / "steps").read_text().count("step") == 3:
        time.sleep(0.02)
    return own(*given)


Trainer._step = step
"""
HEAD = """\
corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}
cache: cache
run: run
plugins: [held_steps]
features: {prosody: {kind: prosody}}
heads:
  baseline: false
  one: {head: mean_mlp, features: [prosody], hidden: 8, batch: 10, epochs: 4}
"""


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # which a plugin adds to


def start(folder, *words):
    command = [warm.folder() / "ser", *words]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def require_interrupted(process, seconds=60):
    _, message = process.communicate(timeout=seconds)
    assert process.returncode == 143, message
    assert message.endswith(
        "ser: interrupted; finished work is kept, and the same command resumes.\n"
    )


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_extract(tmp_path, jobs):
    path, words = make_fragile(tmp_path), ["extract", "one", "--jobs", str(jobs)]
    (tmp_path / "hold").touch()
    process = start(tmp_path, *words)
    wait_for(lambda: len([*tmp_path.glob("*.held")]) == jobs, "not all began a second batch")
    process.terminate()
    require_interrupted(process, WITHIN)
    done = len(checksums(path))
    assert done == jobs
    (tmp_path / "hold").unlink()
    assert start(tmp_path, *words).wait(timeout=120) == 0
    assert len(checksums(path)) == CLIPS
    assert written_once(path)


def steps_of(folder, *words):
    """Stop a training amid its third step, and train again; return the steps of both."""
    (folder / "held_steps.py").write_text(PLUGIN)
    (folder / "hold").touch()
    steps = folder / "steps"
    steps.touch()
    process = start(folder, *words)
    wait_for(lambda: steps.read_text().count("step") == 3, "no third step began")
    process.terminate()
    time.sleep(0.2)
    assert process.poll() is None  # the step is finished first
    (folder / "hold").unlink()
    require_interrupted(process)
    first = steps.read_text().count("step")
    assert start(folder, *words).wait(timeout=120) == 0
    return first, steps.read_text().count("step")


def test_train_all(tmp_path):
    make_corpus(tmp_path)
    path = tmp_path / "pipeline.yaml"
    (tmp_path / "held_steps.py").touch()
    path.write_text(HEAD)
    run_shard(print, asdict(Origin(str(path))), ["prosody"], "cpu", 1, (0, 1))
    assert steps_of(tmp_path, "heads", "train-all", "--jobs", "1") == (3, 8)
    assert (tmp_path / "run" / "heads" / "one" / "head.json").exists()


@pytest.mark.slow
def test_finetune(tmp_path):
    make_pipeline(tmp_path, rest="plugins: [held_steps]\n", epochs=2, batch=9)
    assert steps_of(tmp_path, "finetune", "ft") == (3, 4)
    assert (tmp_path / "run" / "heads" / "ft" / "head.json").exists()
