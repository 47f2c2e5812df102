"""Ten-line makers of corpora, pipelines and runs of the command line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

BIN = Path(sys.executable).parent
CLASSES = ("angry", "sad", "neutral")

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
    """Run the command line as a user does."""
    return subprocess.run(
        [str(BIN / "ser"), *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | environment,
    )


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
