"""Several heads at once in `bench.gpu`: `ser heads train-all --jobs auto` against one by one.

Each worker is a process of its own on the same GPU, and their number is what fits its memory.
"""

import os
import shutil
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
import yaml

from bench.gpu_heads import FEATURES, IMPORTED, Frames, unicamp_heads
from bench.gpu_loop import Setting
from bench.gpu_rows import Figure, once, relative_l2
from bench.heads_sides import CLASSES
from ser.cache.logits import HeadLogits
from ser.engines.heads import RunTraining, Training, train_runs
from ser.pipeline.file import Origin
from ser.pipeline.jobs import heads_job

NAMES = ("whisper-roberta-wce", "hubert-roberta-wce", "wavlm-roberta-wce", "whisper-deberta-wce")
EPOCHS = 4
CHECKOUT = str(Path(__file__).parents[1])


class Jobs:
    """A pipeline of some of UNICAMP's heads, whose features are cached."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.names = setting, NAMES[: 2 if setting.tiny else None]
        frames = Frames.write(setting.root / "head-cache", setting.tiny)
        rows, folder = frames.rows, setting.root / "heads"
        folder.mkdir(exist_ok=True)
        dev = np.arange(len(rows)) >= 0.75 * len(rows)
        table = {
            "utterance": rows.utterances,
            "path": [f"{name}.wav" for name in rows.utterances],
            "speaker": [f"s{int(is_dev)}" for is_dev in dev],
            "split": ["dev" if is_dev else "train" for is_dev in dev],
            "emotion": [CLASSES[i] for i in rows.classes],
        }
        pl.DataFrame(table).write_csv(folder / "m.csv")
        entries = unicamp_heads(setting.tiny)
        epochs = {"epochs": 2 if setting.tiny else EPOCHS}
        document = {
            "corpus": {"manifest": "m.csv", "audio": ".", "classes": list(CLASSES)},
            "cache": str(setting.root / "head-cache"),
            "run": "run",
            "features": dict.fromkeys(FEATURES, IMPORTED),
            "heads": {"baseline": False} | {name: entries[name] | epochs for name in self.names},
        }
        self.path = folder / "pipeline.yaml"
        self.path.write_text(yaml.safe_dump(document))
        self.lines: list[str] = []

    def train(self, jobs: int | None) -> list[torch.Tensor]:
        """Train the heads in so many processes, None for as many as fit; return their logits."""
        origin = Origin(str(self.path))
        job = heads_job(origin.load())
        shutil.rmtree(job.run, ignore_errors=True)
        training = RunTraining(job, self.names, Training(origin, self.setting.device))
        with patch.dict(os.environ, PYTHONPATH=CHECKOUT):  # where ser is not installed
            for report in train_runs([training], jobs, log=self.lines.append):
                if report.done != "trained":
                    raise ValueError(f"head {report.name}: {report.error}")
        files = [job.run / "heads" / name / "logits.h5" for name in self.names]
        return [torch.from_numpy(HeadLogits.read(file).splits["dev"].logits) for file in files]

    @cached_property
    def measured(self) -> tuple[float, float, float]:
        """Seconds one by one and at once, and the relative L2 of their logits."""
        logits: list[list[torch.Tensor]] = []
        device = self.setting.device
        alone = once(device, lambda: logits.append(self.train(1)))
        at_once = once(device, lambda: logits.append(self.train(None)))
        return alone, at_once, relative_l2(logits[1], logits[0])

    def gain(self) -> float:
        """Return how many times as fast all at once are as one by one."""
        return self.measured[0] / self.measured[1]

    def workers(self) -> float:
        """Return how many heads were trained at a time, as `ser heads train-all` reports it."""
        assert self.measured
        counts = [int(line.split("training ")[1].split()[0]) for line in self.lines]
        return max(counts)


def jobs_rows(setting: Setting) -> list[Figure]:
    own = Jobs(setting)
    return [
        Figure("one by one", lambda: own.measured[0], "s"),
        Figure("at once", lambda: own.measured[1], "s"),
        Figure("at a time", own.workers, "heads", "≥", 2, True),
        Figure("one by one / at once", own.gain, "x as fast", "≥", 1, True),
        Figure("logits = one by one", lambda: own.measured[2], "relative L2", "≤", 1e-2),
    ]
