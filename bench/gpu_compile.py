"""`compile: true` and CUDA graphs in `bench.gpu`, against the same model without them.

Compiling takes a minute for some models, so these groups come last. CUDA graphs are measured on a
GPU only, and nothing in ser uses them yet: the rows show whether they would pay.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bench.gpu_extract import Comparisons
from bench.gpu_loop import Setting
from bench.gpu_models import MODELS, Model
from bench.gpu_rows import Figure, Group, once, relative_l2, seconds_of, synchronize

NAMES = ("whisper-large-v3, full", "roberta-large", "wavlm-large")


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


def compile_groups(setting: Setting) -> list[Group]:
    return [
        Group(f"compile, {model.name}", partial(compile_rows, model, setting))
        for name in NAMES
        for model in MODELS
        if model.name == name
    ]
