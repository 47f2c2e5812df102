"""Heads in `bench.gpu`: two of UNICAMP's at the lengths of MSP-Podcast, from a synthetic cache.

The twelve differ in their features and losses only (presets/unicamp.yaml); these are the smallest
and the largest. Frames are noise, cut from one block.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.gpu_loop import Setting
from bench.gpu_rows import Figure, Group, peak_gb, relative_l2, seconds_of
from bench.heads import FRAME_RATE, msp_like
from bench.heads_sides import CLASSES
from ser.cache.features import FeatureCache
from ser.heads.architectures.recurrent import bidirectional_gru
from ser.heads.config import parse_head
from ser.heads.training.cached import CachedFrames, head_trainer
from ser.heads.training.reading import Reading
from ser.heads.training.targets import Labelled
from ser.heads.training.task import Task
from ser.heads.training.trainer import Trainer

FEATURES = {"whisper": (50.0, 1280), "roberta": (None, 1024), "prosody": (80.0, 512)}  # Hz, dim
TOKENS = 80  # what UNICAMP pads every text to
HEADS: dict[str, dict[str, Any]] = {
    "whisper-roberta-wce": {"features": ["whisper", "roberta"]},
    "whisper-roberta-ns3-wce-sml": {
        "features": ["whisper", "roberta", "prosody"],
        "attention_heads": {"prosody": 2},
        "loss": ["wce", "sml"],
        "sampler": "neutral_expressive",
    },
}
CLIPS, BATCH, HIDDEN = 1_024, 64, 512


@dataclass(frozen=True)
class Frames:
    """A synthetic corpus: the names and labels of clips, and a cache of each feature."""

    rows: Labelled
    caches: dict[str, FeatureCache]

    @classmethod
    def write(cls, root: Path, tiny: bool) -> "Frames":
        """Write the caches, or open those that are written."""
        seconds = msp_like()[: 8 if tiny else CLIPS] / (16 if tiny else 1)
        names = [f"u{i}" for i in range(len(seconds))]
        rng = np.random.default_rng(0)
        caches = {}
        for feature, (rate, dim) in FEATURES.items():
            width = 16 if tiny else dim
            block = rng.standard_normal((2_048, width), np.float32)
            cache = FeatureCache.create(root, feature, {}, {"item_shape": [width]})
            if not len(cache.index()):
                with cache.writer() as writer:
                    for name, length in zip(names, seconds.tolist(), strict=True):
                        frames = TOKENS if rate is None else max(1, round(length * rate))
                        start = int(rng.integers(2_048 - frames + 1))
                        writer.append(name, block[start : start + frames])
            caches[feature] = FeatureCache(cache.path)
        labels = np.arange(len(names)) % len(CLASSES)
        return cls(Labelled(names, labels.astype(np.int64)), caches)


class Training:
    """One head and the corpus, on a device."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.name, self.setting = name, setting
        self.frames = Frames.write(setting.root / "head-cache", setting.tiny)

    def trainer(self, device: str, amp: bool = True) -> Trainer[CachedFrames]:
        hidden, batch = (8, 4) if self.setting.tiny else (HIDDEN, BATCH)
        sizes = {"hidden": hidden, "batch": batch}
        common = {"epochs": 1, "dropout": 0.5, "lr": 1e-5, "seed": 7, "amp": amp}
        config = parse_head({"head": "cross_modal_gru", **common, **sizes, **HEADS[self.name]})
        reading = Reading.of(config, self.frames.caches, {})
        none = self.frames.rows.take([])
        task = Task.of(config, CLASSES, train=self.frames.rows, dev=none, device=device)
        return head_trainer(task, reading)

    def epoch(self, amp: bool) -> float:
        """Return the seconds of one epoch; one before it is not timed."""
        trainer = self.trainer(self.setting.device, amp)
        return seconds_of(self.setting.device, trainer.fit)

    @cached_property
    def seconds(self) -> float:
        """Seconds of an epoch with AMP, the default."""
        return self.epoch(amp=True)

    def memory(self) -> float:
        return peak_gb(self.setting.device, self.trainer(self.setting.device).fit)

    def error(self, tf32: bool) -> float:
        """Return the relative L2 of logits on the device to those on the CPU."""
        few = self.frames.rows.utterances[:BATCH]
        own, base = self.trainer(self.setting.device), self.trainer("cpu")
        base.module.load_state_dict(copy.deepcopy(own.module.state_dict()))
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            logits = torch.from_numpy(own.predict(few)["logits"])
        return relative_l2([logits], [torch.from_numpy(base.predict(few)["logits"])])


def head_rows(name: str, setting: Setting) -> list[Figure]:
    own = Training(name, setting)
    clips = len(own.frames.rows)
    return [
        Figure("an epoch", lambda: own.seconds, "s"),
        Figure("training", lambda: clips / own.seconds, "clips/s", "≥", 1_000, True),
        Figure(
            "AMP / float32", lambda: own.epoch(amp=False) / own.seconds, "x as fast", "≥", 1, True
        ),
        Figure("peak memory", own.memory, "GB", "≤", 8, True),
        Figure("logits = CPU, no TF32", lambda: own.error(tf32=False), "relative L2", "≤", 1e-3),
        Figure("logits = CPU, TF32", lambda: own.error(tf32=True), "relative L2", "≤", 2e-2),
    ]


class Recurrence:
    """A bidirectional GRU over one batch: packed, over padding too, and as our heads run it."""

    def __init__(self, setting: Setting) -> None:
        self.device = setting.device
        hidden, batch = (8, 4) if setting.tiny else (HIDDEN, BATCH)
        seconds = np.sort(msp_like())[-8 * batch :: 8] / (8 if setting.tiny else 1)
        self.lengths = torch.from_numpy(np.maximum(seconds * FRAME_RATE, 1).astype(np.int64))
        torch.manual_seed(0)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True).to(self.device)
        width = int(self.lengths.max())
        self.x = torch.randn(batch, width, hidden, device=self.device, requires_grad=True)

    def ours(self) -> torch.Tensor:
        """Return the outputs of the path that heads take on this device."""
        return bidirectional_gru(self.gru, self.x, self.lengths.to(self.device))

    def packed(self) -> torch.Tensor:
        rows = pack_padded_sequence(self.x, self.lengths, batch_first=True, enforce_sorted=False)
        width = self.x.shape[1]
        return pad_packed_sequence(self.gru(rows)[0], batch_first=True, total_length=width)[0]

    def dense(self) -> torch.Tensor:
        """Return the outputs over padding: other numbers, and the least calls."""
        out: torch.Tensor = self.gru(self.x)[0]
        return out

    def seconds(self, kind: str) -> float:
        """Return the seconds of forward and backward."""
        return seconds_of(self.device, lambda: getattr(self, kind)().sum().backward(), 3)

    def error(self) -> float:
        """Return the relative L2 of our outputs on the device to those on the CPU."""
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            own = self.ours().cpu()
            gru = copy.deepcopy(self.gru).cpu()
            return relative_l2([own], [bidirectional_gru(gru, self.x.cpu(), self.lengths)])

    def packed_error(self) -> float:
        """Return the relative L2 of our outputs to a packed sequence's, both on the device."""
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return relative_l2([self.ours()], [self.packed()])


def recurrence_rows(setting: Setting) -> Sequence[Figure]:
    own = Recurrence(setting)

    def ratio(kind: str, base: str) -> float:
        return own.seconds(kind) / own.seconds(base)

    return [
        Figure("ours / packed", lambda: ratio("ours", "packed"), "x", "≤", 1.1, True),
        Figure("packed / dense", lambda: ratio("packed", "dense"), "x", "≤", 1.5, True),
        Figure("ours = packed", own.packed_error, "relative L2", "≤", 1e-4),
        Figure("ours = CPU, no TF32", own.error, "relative L2", "≤", 1e-4),
    ]


def head_groups(setting: Setting) -> list[Group]:
    groups = [Group("bidirectional GRU", lambda: recurrence_rows(setting))]
    for name in HEADS:
        groups.append(Group(f"head {name}", partial(head_rows, name, setting)))
    return groups
