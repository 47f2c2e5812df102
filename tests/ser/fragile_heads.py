"""Heads that can be told to hold, to be killed and to break, on a corpus with features."""

from dataclasses import asdict
from pathlib import Path

from ser.cache.logits import HeadLogits
from ser.engines.shards import run_shard
from ser.pipeline.file import Origin, Pipeline
from ser.pipeline.jobs import heads_job
from tests.ser.factories import make_corpus

NAMES = ("one", "two", "three")
EPOCHS = 4
PLUGIN = """\
import os
import signal
import time
from pathlib import Path

import ser.corpus.termination
import ser.heads.training.checkpoint
from ser.heads.architectures.mean_mlp import MeanMLP
from ser.heads.head import head
from ser.heads.options import MeanMLPOptions

ser.heads.training.checkpoint.SECONDS = 0.0  # after every epoch
ser.corpus.termination.GRACE = 0.1  # for a step that holds


class Options(MeanMLPOptions):
    folder: str  # a file in it tells the heads of this name what to do
    name: str


@head("fragile", Options)
class Fragile(MeanMLP):
    def __init__(self, dims, outputs, options):
        super().__init__(dims, outputs, options)
        self.folder, self.name, self.batches = Path(options.folder), options.name, 0
        (self.folder / f"{os.getpid()}.pid").touch()

    def told(self, word):
        return (self.folder / f"{word} {self.name}").exists()

    def embed(self, features):
        self.batches += self.training
        while self.told("hold") and self.batches == 3:  # in the second epoch
            time.sleep(0.02)
        if self.told("exit"):
            os._exit(7)
        if self.told("memory"):
            raise RuntimeError("out of memory\\n(of which 3 GiB are reserved)")
        if self.told("break"):
            raise TypeError("a bug of ours")
        if self.told("kill") and self.batches == 5:  # in the third epoch
            (self.folder / f"kill {self.name}").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().embed(features)
"""


def make_fragile_heads(folder: Path, names=NAMES) -> Path:
    """Write clips, their features, the heads and a pipeline; returns the pipeline's file."""
    make_corpus(folder)
    (folder / "fragile_heads_plugin.py").write_text(PLUGIN)
    path = folder / "pipeline.yaml"
    common = f"head: fragile, folder: {folder}, features: [prosody], hidden: 8, lr: 1.0e-2"
    path.write_text(
        "corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}\n"
        "cache: cache\n"
        "run: run\n"
        "plugins: [fragile_heads_plugin]\n"
        "features:\n"
        "  prosody: {kind: prosody}\n"
        "heads:\n"
        f"  defaults: {{{common}, batch: 10, epochs: {EPOCHS}}}\n"
        + "".join(f"  {name}: {{name: {name}, seed: {i}}}\n" for i, name in enumerate(names))
        + "stack: {model: mean_logits}\n"
    )
    run_shard(print, asdict(Origin(str(path))), ["prosody"], "cpu", 1, (0, 1))
    return path


def tell(path: Path, word: str, *names: str) -> None:
    for name in names:
        (path.parent / f"{word} {name}").touch()


def untell(path: Path, word: str) -> None:
    for file in path.parent.glob(f"{word} *"):
        file.unlink()


def logits(path: Path, run: str = "run", names=NAMES) -> dict[tuple[str, str], list]:
    """Return every head's logits of every split."""
    collected = {}
    for name in names:
        of = HeadLogits.read(path.parent / run / "heads" / name / "logits.h5")
        collected |= {(name, split): rows.logits.tolist() for split, rows in of.splits.items()}
    return collected


def job_of(path: Path, *overrides: str):
    return heads_job(Pipeline.load(path, overrides))


def workers(path: Path) -> list[int]:
    return [int(file.stem) for file in path.parent.glob("*.pid")]
