"""The extraction loop in `bench.gpu`, against the bare model on the very same batches.

loop   `run_batches`: decoding, preparation, the model, and writing to the cache
bare   the model alone on the batches that the loop prepared, already on the device
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.gpu_models import Model
from bench.gpu_rows import seconds_of, synchronize
from ser.cache.features import FeatureCache
from ser.corpus.manifest import Manifest
from ser.extract.device_memory import default_frame_budget, plan
from ser.extract.devices import device_type
from ser.extract.encoding import EncoderExtractor
from ser.extract.extractor import build_extractor, parse_options
from ser.extract.job import Job
from ser.extract.loading import load
from ser.extract.loop import Output, Report, Threads, run_batches
from ser.extract.models import resolve
from ser.extract.run import sources_of

PEAKS = {  # dense bf16 FLOP/s by the first part that the card's name has, from the data sheets
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
}


@dataclass(frozen=True)
class Setting:
    """What all models share: the corpus, a folder, the device, and whether sizes are tiny."""

    speech: Manifest
    texts: Manifest
    audio: Path
    root: Path
    device: str
    tiny: bool

    @property
    def is_gpu(self) -> bool:
        return device_type(self.device) == "cuda"


@dataclass
class Tape:
    """The batches that the model was given, and the seconds for which the device was busy."""

    inputs: list[tuple[Any, ...]] = field(default_factory=list)
    spans: list[tuple[Any, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def busy(self) -> float:
        """Return the seconds of all runs, by the device's own clock on a GPU."""
        return self.seconds + float(sum(a.elapsed_time(b) for a, b in self.spans)) / 1e3


class Extraction:
    """One model, loaded, and a corpus for it."""

    def __init__(self, model: Model, setting: Setting) -> None:
        self.model, self.setting = model, setting
        folder = model.write(setting.root / "models", setting.device, setting.tiny)
        options = parse_options(model.entry(folder, setting.tiny))
        manifest = setting.texts if model.kind == "text" else setting.speech
        self.job = Job(model.name, options, manifest, setting.audio, setting.root / "cache")
        self.extractor = build_extractor(options, resolve(str(folder)))
        assert isinstance(self.extractor, EncoderExtractor)
        load(self.extractor, model.name, setting.device)
        self.encoder: Any = self.extractor.encoder
        self.sources = sources_of(self.job)
        self.hashes = self.sources.stat_hashes()
        sizes = self.sources.sizes()
        budget = float(default_frame_budget(setting.device))
        if setting.tiny:  # two of the longest, so that there are several batches
            budget = 2.1 * max(map(self.extractor.cost, sizes.values()))
        self.batches = plan(self.extractor, sizes, budget)

    def loop(self, batches: Sequence[Sequence[str]]) -> tuple[FeatureCache, Report, int]:
        """Extract batches into an empty cache; return it, the report, and the bytes written."""
        shutil.rmtree(self.setting.root / "cache", ignore_errors=True)
        extractor, threads = self.extractor, Threads.on(self.setting.device)
        metadata = {"item_shape": list(extractor.item_shape), "frame_rate": extractor.frame_rate}
        cache = FeatureCache.create(self.job.cache, self.model.name, {}, metadata)
        report = Report(self.model.name, str(cache.path))
        with cache.writer(self.job.options.precision) as writer:
            output = Output(writer, {u for batch in batches for u in batch}, report)
            run_batches(extractor, self.sources, batches, [output], self.hashes, threads=threads)
            nbytes = writer.nbytes
        return FeatureCache(cache.path), report, nbytes

    @contextmanager
    def taped(self, keep: bool) -> Iterator[Tape]:
        """Time every run of the model, and `keep` what it is given."""
        tape, run = Tape(), self.encoder.run

        def timed(*inputs: Any) -> Any:
            if keep:
                tape.inputs.append(inputs)
            if not self.setting.is_gpu:
                started = time.perf_counter()
                out = run(*inputs)
                tape.seconds += time.perf_counter() - started
                return out
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            out = run(*inputs)
            end.record()
            tape.spans.append((start, end))
            return out

        with patch.object(self.encoder, "run", timed):
            yield tape
            synchronize(self.setting.device)

    @cached_property
    def prepared(self) -> list[tuple[Any, ...]]:
        """The batches that the loop gives the model."""
        with self.taped(keep=True) as tape:
            self.loop(self.batches)
        return tape.inputs

    def bare(self) -> None:
        with torch.inference_mode():
            for inputs in self.prepared:
                self.encoder.run(*inputs)

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of the bare model on all batches, padding included."""
        prepared, counter = self.prepared, FlopCounterMode(display=False)
        with torch.no_grad(), counter:  # in inference mode, operations are not broken down
            for inputs in prepared:
                self.encoder.run(*inputs)
        return counter.get_total_flops()

    @cached_property
    def bare_seconds(self) -> float:
        """Wall seconds of the bare model on all batches."""
        return seconds_of(self.setting.device, self.bare, 1 if self.setting.tiny else 3)

    @cached_property
    def timed_loop(self) -> tuple[float, float, int]:
        """Wall seconds of the loop, the seconds in which the device was busy, bytes written."""
        assert self.prepared  # the first loop warms up
        with self.taped(keep=False) as tape:
            started = time.perf_counter()
            _, report, nbytes = self.loop(self.batches)
            wall = time.perf_counter() - started
        if report.extracted != len(self.hashes):
            raise ValueError(f"{report.extracted} of {len(self.hashes)} clips: {report.failed}")
        return wall, tape.busy(), nbytes

    def utilisation(self) -> float:
        """Return the bare model's FLOP/s over the card's peak."""
        return self.flops / self.bare_seconds / peak(self.setting.device)


def peak(device: str) -> float:
    """Return the dense peak of a card in bfloat16, FLOP/s.

    Of another device, and of a part of a card (MIG), it is what a large product reaches.
    """
    if device_type(device) == "cuda":
        name = torch.cuda.get_device_name(device)
        known = [flops for part, flops in PEAKS.items() if part in name]
        if known and " MIG " not in name:
            return known[0]
    size = 8192 if device_type(device) == "cuda" else 512
    dtype = torch.bfloat16 if device_type(device) == "cuda" else torch.float32
    square = torch.ones(size, size, device=device, dtype=dtype)
    return 2 * size**3 / seconds_of(device, lambda: square @ square, 3)
