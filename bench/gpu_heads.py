"""Heads in `bench.gpu`: the twelve of UNICAMP at the lengths of MSP-Podcast, and the GRU in them.

They are those of presets/unicamp.yaml, one epoch each; frames are noise, cut from one block and
cached. The smallest and the largest have all rows.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.gpu_loop import Setting
from bench.gpu_rows import Figure, once, peak_gb, relative_l2, seconds_of
from bench.heads import FRAME_RATE, msp_like
from bench.heads_sides import CLASSES
from bench.report import drop
from ser.cache.features import FeatureCache
from ser.cache.reader import BatchReader, FeatureInput
from ser.extract.extractor import parse_options
from ser.extract.job import options_spec
from ser.heads.architectures.recurrent import bidirectional_gru
from ser.heads.config import parse_head
from ser.heads.training.cached import CachedFrames, head_trainer
from ser.heads.training.reading import Reading
from ser.heads.training.schedule import Epoch
from ser.heads.training.step import MicroBatch
from ser.heads.training.targets import Labelled
from ser.heads.training.task import Task
from ser.heads.training.trainer import Steps, Trainer
from ser.presets import preset

FEATURES = {  # Hz (None: tokens), dim
    "whisper": (50.0, 1280),
    "hubert": (50.0, 1280),
    "wavlm": (50.0, 1024),
    "roberta": (None, 1024),
    "deberta": (None, 1536),
    "prosody": (80.0, 512),
}
TOKENS = 80  # what UNICAMP pads every text to
SMALLEST, LARGEST = "whisper-roberta-wce", "whisper-roberta-ns3-wce-sml"
CLIPS, BATCH, HIDDEN = 1_024, 64, 512
IMPORTED = {"kind": "imported"}


def unicamp_heads(tiny: bool) -> dict[str, dict[str, Any]]:
    """Return the entries of the preset's twelve heads by name, one epoch each; tiny: small ones."""
    heads = yaml.safe_load(preset("unicamp"))["heads"]
    defaults = heads.pop("defaults")
    sizes = {"hidden": 8, "batch": 4} if tiny else {"hidden": HIDDEN, "batch": BATCH}
    return {name: defaults | entry | sizes | {"epochs": 1} for name, entry in heads.items()}


@dataclass(frozen=True)
class Frames:
    """A synthetic corpus: the names and labels of clips, and a cache of each feature."""

    rows: Labelled
    caches: dict[str, FeatureCache]

    @classmethod
    def write(cls, root: Path, tiny: bool) -> "Frames":
        """Write the caches, or open those that are written."""
        seconds = msp_like()[: 16 if tiny else CLIPS] / (16 if tiny else 1)
        names = [f"u{i}" for i in range(len(seconds))]
        rng = np.random.default_rng(0)
        caches = {}
        for feature, (rate, dim) in FEATURES.items():
            width = 16 if tiny else dim
            block = rng.standard_normal((2_048, width), np.float32)
            spec = options_spec(parse_options(IMPORTED))
            cache = FeatureCache.create(root, feature, spec, {"item_shape": [width]})
            if not len(cache.index()):
                with cache.writer() as writer:
                    for name, length in zip(names, seconds.tolist(), strict=True):
                        frames = TOKENS if rate is None else max(1, round(length * rate))
                        start = int(rng.integers(2_048 - frames + 1))
                        writer.append(name, block[start : start + frames])
            caches[feature] = FeatureCache(cache.path)
        labels = np.arange(len(names)) % len(CLASSES)
        return cls(Labelled(names, labels.astype(np.int64)), caches)

    def reopened(self) -> "Frames":
        """Return it with no file mapped."""
        caches = {name: FeatureCache(cache.path) for name, cache in self.caches.items()}
        return replace(self, caches=caches)


class Training:
    """One head and the corpus, on a device."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.entry, self.setting = unicamp_heads(setting.tiny)[name], setting
        self.device = setting.device
        self.frames = Frames.write(setting.root / "head-cache", setting.tiny)

    def trainer(
        self, device: str, amp: bool = True, frames: Frames | None = None
    ) -> Trainer[CachedFrames]:
        frames = frames or self.frames
        config = parse_head(self.entry | {"amp": amp})
        reading = Reading.of(config, frames.caches, {})
        none = frames.rows.take([])
        task = Task.of(config, CLASSES, train=frames.rows, dev=none, device=device)
        return head_trainer(task, reading)

    def epoch(self, amp: bool = True) -> float:
        """Return the seconds of one epoch; one before it is not timed."""
        return seconds_of(self.device, self.trainer(self.device, amp).fit)

    @cached_property
    def seconds(self) -> float:
        """Seconds of an epoch with AMP, the default, and the files in the page cache."""
        return self.epoch()

    def in_memory(self) -> float:
        """Return the seconds of an epoch over frames that were read whole before."""
        frames = self.frames.reopened()
        for cache in frames.caches.values():
            cache.load()
        return seconds_of(self.device, self.trainer(self.device, frames=frames).fit)

    def from_disk(self) -> float:
        """Return the seconds of an epoch whose files are not in the page cache."""
        assert self.seconds  # kernels and allocators are warm
        frames = self.frames = self.frames.reopened()
        for cache in frames.caches.values():
            drop(cache.path)
        return once(self.device, self.trainer(self.device).fit)

    def pageable(self) -> float:
        """Return the seconds of an epoch whose batches are read into memory that is not pinned."""

        def reader(columns: Mapping[str, FeatureInput], pin: bool, check: bool) -> BatchReader:
            return BatchReader(columns, pin=False, check=check)

        with patch("ser.heads.training.cached.BatchReader", reader):
            return self.epoch()

    def steps_alone(self) -> float:
        """Return the seconds of an epoch whose batches are on the device before."""
        trainer = self.trainer(self.device)
        with _resident(trainer.data):
            return seconds_of(self.device, trainer.fit)

    def memory(self) -> float:
        return peak_gb(self.device, self.trainer(self.device).fit)

    def error(self, tf32: bool) -> float:
        """Return the relative L2 of logits on the device to those on the CPU."""
        few = self.frames.rows.utterances[:BATCH]
        own, base = self.trainer(self.device), self.trainer("cpu")
        base.module.load_state_dict(copy.deepcopy(own.module.state_dict()))
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            logits = torch.from_numpy(own.predict(few)["logits"])
        return relative_l2([logits], [torch.from_numpy(base.predict(few)["logits"])])


@contextmanager
def _resident(data: CachedFrames) -> Iterator[None]:
    """Keep the batches of the first epoch on the device, and give them to every other."""
    read, batches = data.steps, list[list[MicroBatch]]()

    def steps(epoch: Epoch, first: int) -> Steps:
        planned = read(epoch, first)
        if not batches:
            batches.extend([[_copied(part) for part in step] for step in planned.remaining])
        return replace(planned, remaining=iter(batches))

    with patch.object(data, "steps", steps):
        yield


def _copied(batch: MicroBatch) -> MicroBatch:
    features = {name: (x.clone(), mask) for name, (x, mask) in batch.features.items()}
    return replace(batch, features=features)


def head_rows(name: str, setting: Setting) -> list[Figure]:
    own = Training(name, setting)
    clips = len(own.frames.rows)

    def ratio(seconds: float) -> float:
        return seconds / own.seconds

    rows = [
        Figure("an epoch", lambda: own.seconds, "s"),
        Figure("training", lambda: clips / own.seconds, "clips/s", "≥", 1_000, True),
    ]
    if name not in (SMALLEST, LARGEST):
        return rows
    return [
        *rows,
        Figure("its steps alone", lambda: ratio(own.steps_alone()), "of it", "≥", 0.9, True),
        Figure("frames in RAM", lambda: ratio(own.in_memory()), "x", "≤", 1.1, True),
        Figure("frames from disk", lambda: ratio(own.from_disk()), "x", "≤", 2, True),
        Figure("memory not pinned", lambda: ratio(own.pageable()), "x", "≥", 0.95, True),
        Figure("without AMP", lambda: ratio(own.epoch(amp=False)), "x", "≥", 1, True),
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
