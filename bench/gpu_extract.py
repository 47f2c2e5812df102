"""Extraction in `bench.gpu`: what a model's frames must equal, and the rows of every model.

Compiling takes a minute for some models, so its groups come last. CUDA graphs are measured on a GPU
only, and nothing in ser uses them yet: the rows show whether they would pay.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

from bench.gpu_loop import Extraction, Setting
from bench.gpu_models import Model
from bench.gpu_rows import Figure, once, peak_gb, relative_l2, release, seconds_of, synchronize
from ser.corpus.errors import plural
from ser.corpus.lookahead import batches_ahead
from ser.extract.device_memory import frame_bytes, peak_bytes
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.loop import AHEAD, Threads
from ser.extract.sources import AudioSources

COMPARED = 8  # clips of the rows on equality
THREADS = (1, 2, 4, 8, 16)
WAVLM_CLIPS = 1_900  # a second: WavLM-large at 40 % of an H100, clips of 5.7 s (docs/extract.md)
MELS = 16  # windows
COMPILED = ("whisper-large-v3, full", "roberta-large", "wavlm-large")  # of `MODELS`


class Comparisons(Extraction):
    """What the frames of a loaded model are compared with."""

    def inputs(self) -> list[Any]:
        return [self.sources.load(u) for u in self.batches[-1][:COMPARED]]

    def frames(self, inputs: Sequence[Any]) -> list[torch.Tensor]:
        return [torch.from_numpy(np.asarray(out)) for out in self.extractor.extract(inputs)]

    def batch_error(self) -> float:
        """Return the relative L2 between clips in a batch and alone."""
        inputs = self.inputs()
        return relative_l2(self.frames(inputs), [self.frames([x])[0] for x in inputs])

    @cached_property
    def precisions(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Frames in bfloat16, and in float32 by the same (rounded) weights."""
        dtype, inputs = next(self.encoder.model.parameters()).dtype, self.inputs()
        try:
            self.encoder.to(torch.bfloat16)
            half = self.frames(inputs)
            self.encoder.to(torch.float32)
            return half, self.frames(inputs)
        finally:
            self.encoder.to(dtype)

    def cosine(self) -> float:
        """Return the least cosine of a clip's frames in bfloat16 and float32."""
        pairs = zip(*self.precisions, strict=True)
        return min(float(torch.cosine_similarity(a.ravel(), b.ravel(), dim=0)) for a, b in pairs)

    def halved_error(self) -> float:
        """Extract in one batch that does not fit; return the relative L2 to batches that do.

        On a GPU the memory is limited to what half of the clips need; on a CPU runs of more than
        half of them raise what a GPU would.
        """
        keys = {self.extractor.batch_key(size) for size in self.sources.sizes().values()}
        clips = [u for batch in self.batches[:4] for u in batch]
        if len(keys) > 1:  # other lengths never share a batch
            clips = max(self.batches, key=len)
        quarter = max(1, len(clips) // 4)
        parts = [clips[i : i + quarter] for i in range(0, len(clips), quarter)]
        usual, _, _ = self.loop(parts)
        base = [torch.from_numpy(usual.frames(u).copy()) for u in clips]
        with self._limited(parts[-1], max(1, len(clips) // 2)):
            halved, report, _ = self.loop([clips])
        if report.extracted != len(clips):
            raise ValueError(f"{report.extracted} of {len(clips)} clips: {report.failed}")
        return relative_l2([torch.from_numpy(halved.frames(u).copy()) for u in clips], base)

    @contextmanager
    def _limited(self, quarter: Sequence[str], most: int) -> Iterator[None]:
        """Limit memory to that of `most` clips; raises `ValueError` if no run is refused."""
        device, compute, refused = self.setting.device, self.extractor.compute, 0

        def limited(batch: Sequence[Any]) -> Any:
            nonlocal refused
            try:
                if not self.setting.is_gpu and len(batch) > most:
                    raise torch.OutOfMemoryError("out of memory (simulated)")
                return compute(batch)
            except torch.OutOfMemoryError:
                refused += 1
                raise

        with patch.object(self.extractor, "compute", limited):
            if not self.setting.is_gpu:
                yield
            else:
                weights = torch.cuda.memory_allocated(device)
                clips = peak_gb(device, lambda: self.loop([quarter])) * 1e9 - weights
                total = torch.cuda.get_device_properties(device).total_memory
                release()
                try:
                    share = (weights + 2 * clips) / total
                    torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
                    yield
                finally:
                    torch.cuda.set_per_process_memory_fraction(1.0, device)
        if not refused:
            raise ValueError("the batch that was to be too large fitted")

    @contextmanager
    def _plain_attention(self) -> Iterator[None]:
        model = self.encoder.model
        model.set_attn_implementation("eager")
        try:
            yield
        finally:
            model.set_attn_implementation("sdpa")

    def sdpa_gain(self) -> float:
        """Return how many times as fast the model is with SDPA as with plain attention."""
        fused = self.bare_seconds
        with self._plain_attention():
            return seconds_of(self.setting.device, self.bare) / fused

    def sdpa_error(self) -> float:
        """Return the relative L2 of frames with SDPA to those with plain attention."""
        inputs = self.inputs()
        fused = self.frames(inputs)
        with self._plain_attention():
            return relative_l2(fused, self.frames(inputs))

    def waiting(self) -> float:
        """Return the percentage of the loop in which the device waits."""
        wall, busy, _ = self.timed_loop
        return 100 * (1 - busy / wall)

    def preparing(self, threads: int) -> float:
        """Return the clips a second that so many threads prepare."""
        sources = [self.sources.load(u) for u in list(self.hashes)[: 8 * MELS]]
        with ThreadPoolExecutor(threads) as pool:
            seconds = once("cpu", lambda: list(pool.map(self.encoder.prepare, sources)))
        return len(sources) / seconds

    def preparing_share(self) -> float:
        """Return the seconds of preparation, by the default threads, over those of the model."""
        threads = Threads.on(self.setting.device).prepare if self.extractor.prepares_at_once else 1
        return len(self.hashes) / self.preparing(threads) / self.bare_seconds

    def device_mels(self) -> float:
        """Return the log-mels of 30 s that transformers computes in a second on the device."""
        extractor = WhisperFeatureExtractor(feature_size=self.encoder.bands)
        waves = [np.full(30 * SAMPLE_RATE, 0.1, np.float32)] * (1 if self.setting.tiny else MELS)
        device = self.setting.device

        def mels() -> object:
            return extractor(waves, sampling_rate=SAMPLE_RATE, return_tensors="pt", device=device)

        return len(waves) / seconds_of(device, mels)

    def memory_share(self) -> float:
        """Return the peak memory of the largest batch over what is estimated for it; of a CPU 0."""
        device, sizes = self.setting.device, self.sources.sizes()
        if not self.setting.is_gpu:
            return 0.0
        costs = [sum(self.extractor.cost(sizes[u]) for u in batch) for batch in self.batches]
        largest = int(np.argmax(costs))
        inputs = [self.extractor.prepare(self.sources.load(u)) for u in self.batches[largest]]
        estimated = costs[largest] * frame_bytes(self.extractor, max(sizes.values()), device)
        return peak_bytes(device, lambda: self.extractor.compute(inputs)) / estimated


def extraction_rows(model: Model, setting: Setting) -> list[Figure]:
    own = Comparisons(model, setting)
    close = 0.02 if setting.is_gpu else 1e-4  # bfloat16, float32
    clips = len(own.hashes)
    rows = [
        Figure("loop / bare", lambda: own.bare_seconds / own.timed_loop[0], "x", "≥", 0.95, True),
        Figure("bare model", lambda: clips / own.bare_seconds, "clips/s"),
        Figure("loop", lambda: clips / own.timed_loop[0], "clips/s"),
        Figure("the device waits", own.waiting, "%", "≤", 5, True),
        Figure("written", lambda: own.timed_loop[2] / 1e9 / own.timed_loop[0], "GB/s"),
        Figure("batch = single", own.batch_error, "relative L2", "≤", close),
    ]
    if max(map(len, own.batches)) >= (2 if setting.tiny else 4):
        rows.append(Figure("halving without memory", own.halved_error, "relative L2", "≤", close))
    if model.kind == "facodec":  # in float32 always
        return rows
    utilisation = 0.40 if model.kind != "text" else None  # what docs/extract.md assumes
    rows += [
        Figure("FLOP/s of bare / peak", own.utilisation, "x", "≥", utilisation, True),
        Figure("preparation / bare", own.preparing_share, "x", "≤", 0.8, True),
        Figure("peak memory / estimate", own.memory_share, "x", "≤", 1.25, True),
        Figure("bf16 = fp32", lambda: relative_l2(*own.precisions), "relative L2", "≤", 0.05),
        Figure("bf16 = fp32", own.cosine, "cosine", "≥", 0.999),
    ]
    if own.encoder.model.config._attn_implementation == "sdpa":
        rows += [
            Figure("SDPA / plain attention", own.sdpa_gain, "x as fast", "≥", 1.0, True),
            Figure("SDPA = plain attention", own.sdpa_error, "relative L2", "≤", close),
        ]
    if model.kind == "whisper":
        rows += [
            Figure(f"log-mels, {plural(n, 'thread')}", partial(own.preparing, n), "clips/s")
            for n in THREADS
        ]
        rows.append(Figure("log-mels of 30 s on the device", own.device_mels, "clips/s"))
    return rows


def decoding_rows(setting: Setting) -> list[Figure]:
    sources = AudioSources(setting.speech, setting.audio)
    sources.stat_hashes()
    batches = [sources.utterances[i : i + 8] for i in range(0, len(sources.utterances), 8)]

    def rate(threads: int) -> float:
        def decode() -> None:
            for _ in batches_ahead(sources.load, batches, threads, AHEAD):
                pass

        return len(sources.utterances) / seconds_of("cpu", decode)

    default = max(n for n in THREADS if n <= Threads.on("cuda").decode)
    goals = {default: WAVLM_CLIPS}
    return [
        Figure(plural(n, "thread"), partial(rate, n), "clips/s", "≥", goals.get(n), True)
        for n in THREADS
    ]


class Compiled(Comparisons):
    """A model with `compile: true`, and the same without."""

    def __init__(self, model: Model, setting: Setting) -> None:
        self.plain = Comparisons(model, setting)
        super().__init__(replace(model, options={**model.options, "compile": True}), setting)

    def first(self) -> float:
        """Return the seconds until all lengths of batches are compiled."""
        return once(self.setting.device, self.bare)

    def gain(self) -> float:
        """Return how many times as fast the bare model is."""
        return self.plain.bare_seconds / self.bare_seconds

    def error(self) -> float:
        """Return the relative L2 of its frames to those without `compile`."""
        return relative_l2(self.frames(self.inputs()), self.plain.frames(self.plain.inputs()))

    def graph_gain(self, clips: int | None) -> float:
        """Return how many times as fast a CUDA graph of a batch is; `clips` of it, or all."""
        inputs = tuple(tensor[:clips] for tensor in self.plain.prepared[-1])
        run, device = self.plain.encoder.run, self.setting.device

        def eager() -> Any:
            with torch.inference_mode():
                return run(*inputs)

        seconds, graph = seconds_of(device, eager, 3), torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(device)
        with torch.cuda.stream(stream):  # what the first run in a stream allocates
            eager()
        synchronize(device)
        with torch.cuda.graph(graph, stream=stream):
            eager()
        return seconds / seconds_of(device, graph.replay, 3)


def compile_rows(model: Model, setting: Setting) -> Sequence[Figure]:
    own = Compiled(model, setting)
    close = 0.02 if setting.is_gpu else 1e-4  # bfloat16, float32
    rows = [
        Figure("compiling", own.first, "s"),
        Figure("compiled / eager", own.gain, "x as fast", "≥", 1, True),
        Figure("compiled = eager", own.error, "relative L2", "≤", close),
    ]
    if setting.is_gpu:
        rows += [
            Figure("CUDA graph / eager, a clip", partial(own.graph_gain, 1), "x as fast"),
            Figure("CUDA graph / eager, a batch", partial(own.graph_gain, None), "x as fast"),
        ]
    return rows
