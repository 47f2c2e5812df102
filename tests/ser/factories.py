"""Ten-line makers of corpora, pipelines and runs of the command line."""

import contextlib
import io
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from typer.main import get_command

from ser.commands.main import cli, main
from tests.ser import warm

BIN = Path(sys.executable).parent
CLASSES = ("angry", "sad", "neutral")
RUN = ("run", "--jobs", "1", "--no-report")  # one process, and no plotly: seconds less

PIPELINE = """\
corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}
cache: cache
run: run
features:
  prosody: {kind: prosody}
heads:
  defaults: {hidden: 8, epochs: 2, lr: 1.0e-2, batch: 16}
  one: {features: [{name: prosody, stride: 8}]}
  two: {features: [prosody], loss: [wce, sml], sampler: neutral_expressive}
stack: {model: mean_logits}
"""


def ser(*words, cwd, **environment):
    """Call the command line in this process: a process of its own would import for seconds."""
    command, out, err = ["ser", *map(str, words)], io.StringIO(), io.StringIO()
    log = logging.getLogger("ser")
    level, handlers, propagate = log.level, list(log.handlers), log.propagate
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(cwd)
        patch.setattr(sys, "argv", command)
        patch.setattr(sys, "stdin", io.StringIO())
        patch.setattr(os, "sched_getaffinity", lambda _: {0})  # so no workers unless `--jobs` says
        for name, value in environment.items():
            patch.setenv(name, value)
        stack.enter_context(warnings.catch_warnings())
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)  # as in a process
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        end = stack.enter_context(pytest.raises(SystemExit))
        main()
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)
    return subprocess.CompletedProcess(command, end.value.code, out.getvalue(), err.getvalue())


def parsed_command(words):
    """Return the command that the words after `ser` call, once its options have been parsed."""
    context, rest, names = get_command(cli).make_context("ser", list(words)), list(words), []
    while hasattr(context.command, "resolve_command"):
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)
        names.append(name)
    return " ".join(names)


def ser_process(*words, cwd, **environment):
    """Run the command line as a user does, for what only a process of its own shows."""
    return run_process([str(BIN / "ser"), *map(str, words)], cwd, environment)


def ser_warm(*words, cwd):
    """Run the command line in a process that has its libraries already, for one that is killed."""
    return run_process([warm.folder() / "ser", *map(str, words)], cwd, {})


def bash(script, cwd, **environment):
    """Run the commands of a page, on one core and without a browser, which takes 10 s to draw.

    `ser` has its libraries already, unless variables are given, which libraries may read.
    """
    first = BIN if environment else warm.folder()
    path = f"{first}:{BIN}:{os.environ['PATH']}"
    environment = {"BROWSER_PATH": str(cwd / "no browser"), "PATH": path} | environment
    core = os.sched_getaffinity(0).pop()
    command = ["taskset", "--cpu-list", str(core), "bash", "-euo", "pipefail", "-c", script]
    return run_process(command if shutil.which("taskset") else command[3:], cwd, environment)


def run_process(command, cwd, environment):
    path = f"{BIN}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path} | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def tone(seed, seconds=0.4, rate=16_000):
    """Return a voice-like buzz whose pitch depends on the seed."""
    t = np.arange(int(seconds * rate)) / rate
    pitch = 100 + 40 * (seed % 3)
    return (sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 8)) * 0.1).astype("f4")


def make_corpus(folder, count=30, suffix=".csv"):
    """Write clips, a manifest and a pipeline; the pitch says the class."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    for i in range(count):
        soundfile.write(folder / "audio" / f"u{i}.wav", tone(i, 0.3 + 0.01 * i), 16_000)
        split = ("train", "train", "train", "dev", "test")[i // 3 % 5]
        rows.append((f"u{i}", f"u{i}.wav", CLASSES[i % 3], f"{split}-{i % 2}", split))
    columns = ["utterance", "path", "emotion", "speaker", "split"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    frame.write_csv(folder / "m.csv")
    (folder / "pipeline.yaml").write_text(PIPELINE)
    return frame
