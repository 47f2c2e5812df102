"""Fine-tuning in `bench.gpu`: one accumulated step of WavLM-large, and a group of one process."""

import math
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from bench.gpu_loop import Setting
from bench.gpu_models import WAVLM_LARGE
from bench.gpu_rows import Figure, peak_gb, relative_l2, seconds_of
from ser.corpus.manifest import Manifest
from ser.extract.models import resolve
from ser.extract.sources import AudioSources
from ser.finetune.batches import ClipBatches
from ser.finetune.config import parse_finetune
from ser.finetune.job import FineTuneJob
from ser.finetune.run import build_trainer
from ser.heads.training.processes import Processes
from ser.heads.training.targets import labelled
from ser.heads.training.trainer import Trainer, trainable

BATCH, ACCUMULATE = 8, 2
WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, checkpointing": {"checkpointing": True},
    "LoRA": {"lora": {"rank": 8}},
}


class Tuning:
    """A way of fine-tuning: a trainer whose epoch is one step of two batches."""

    def __init__(self, way: str, folder: Path, setting: Setting) -> None:
        self.setting = setting
        batch = 2 if setting.tiny else BATCH
        entry = {"model": str(folder), "kind": "speech", "batch": batch, "accumulate": ACCUMULATE}
        entry |= {"epochs": 1, "lr": 1e-4, "hidden": 8 if setting.tiny else 512} | WAYS[way]
        self.config = parse_finetune("ft", entry)
        frame = setting.speech.frame.head(batch * ACCUMULATE)
        self.manifest = Manifest(frame, setting.speech.classes)
        self.folder = folder

    def trainer(self) -> Trainer[ClipBatches]:
        sources = AudioSources(self.manifest, self.setting.audio)
        job = FineTuneJob(self.setting.root / "run", "ft", self.config, self.manifest, sources)
        rows = labelled(self.config.training, self.manifest, self.manifest.utterances())
        processes = Processes(device=torch.device(self.setting.device))
        return build_trainer(job, resolve(str(self.folder)), {"train": rows}, processes)

    @cached_property
    def step(self) -> tuple[float, float, float]:
        """Peak GB and loss of the first step, and the share of tensors that it moves."""
        trainer = self.trainer()
        before = [parameter.detach().clone() for parameter in trainable(trainer.module)]
        losses: list[float] = []
        memory = peak_gb(
            self.setting.device, lambda: losses.append(trainer.fit().history[0]["train_loss"])
        )
        memory -= sum(p.nbytes for p in before) / 1e9 if memory else 0.0  # the copies
        pairs = zip(before, trainable(trainer.module), strict=True)
        moved = [not torch.equal(old, new) for old, new in pairs]
        return memory, losses[0], sum(moved) / len(moved)

    def rate(self) -> float:
        """Return clips per second of a step, once warm."""
        return len(self.manifest) / seconds_of(self.setting.device, self.trainer().fit)

    def memory_share(self, base: "Tuning") -> float:
        """Return the peak memory over that of another way; of a CPU 0."""
        return self.step[0] / base.step[0] if base.step[0] else 0.0

    def loss_error(self, base: "Tuning") -> float:
        """Return the relative difference of the loss to that of another way."""
        return abs(self.step[1] - base.step[1]) / abs(base.step[1])


def _rows(way: str, tuning: Tuning) -> list[Figure]:
    least = 0.4  # of LoRA the second matrices: the first have no gradient yet
    return [
        Figure(f"{way}: loss", lambda: tuning.step[1], "", "<", 100),
        Figure(f"{way}: tensors that move", lambda: tuning.step[2], "share", "≥", least),
        Figure(f"{way}: peak memory", lambda: tuning.step[0], "GB", "≤", 70, True),
        Figure(f"{way}: training", tuning.rate, "clips/s", "≥", 20, True),
    ]


def finetune_rows(setting: Setting) -> list[Figure]:
    folder = WAVLM_LARGE.write(setting.root / "tuned", setting.device, setting.tiny)
    ways = {way: Tuning(way, folder, setting) for way in WAYS}
    full, checkpointing, lora = ways.values()
    saved = partial(checkpointing.memory_share, full)
    error = partial(checkpointing.loss_error, full)
    return [
        *(row for way, tuning in ways.items() for row in _rows(way, tuning)),
        Figure("loss with checkpointing = without", error, "relative", "≤", 0.01),
        Figure("memory, checkpointing / without", saved, "x", "≤", 0.8, True),
        Figure("memory, LoRA / full", partial(lora.memory_share, full), "x", "≤", 0.9, True),
    ]


def group_error(setting: Setting) -> float:
    """Return the relative L2 of sums and gathers in a group of one process: NCCL, Gloo on a CPU."""
    backend, file = "nccl" if setting.is_gpu else "gloo", setting.root / "group"
    distributed.init_process_group(backend, f"file://{file}", rank=0, world_size=1)
    try:
        values = torch.arange(1.0, 1e6, device=setting.device) / math.pi
        summed, gathered = values.clone(), [torch.empty_like(values)]
        distributed.all_reduce(summed)
        distributed.all_gather(gathered, values)
        return relative_l2([summed, *gathered], [values, values])
    finally:
        distributed.destroy_process_group()


def group_rows(setting: Setting) -> list[Figure]:
    return [Figure("sum and gather", partial(group_error, setting), "relative L2", "≤", 0)]
