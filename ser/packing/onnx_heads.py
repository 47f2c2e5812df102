"""A trained head as an ONNX graph, by PyTorch's exporter.

The graph reads, of each feature, padded frames and their mask, and returns the logits and the
attributes that `TrainedHead.predict` returns: standard scores, layers, strides and the mean over
the folds are in it. Batch and frames are dynamic.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path

import onnxscript  # noqa: F401  # the exporter needs it, and says so in its own words
import torch
from torch import Tensor, nn
from torch.nn import functional

from ser.corpus.errors import UserError, one_line
from ser.heads.trained import TrainedHead

SAMPLE = 7  # frames of the batch that is traced


class HeadGraph(nn.Module):
    """The mean outputs of a head's trainings, from a frames tensor and a mask for each feature."""

    def __init__(self, head: TrainedHead) -> None:
        super().__init__()
        self.trainings = nn.ModuleList(head.modules)
        self.uses = head.config.features
        self.outputs = list(head.saved.outputs)

    def forward(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return each output `(batch, width)`."""
        inputs = zip(self.uses, tensors[::2], tensors[1::2], strict=True)
        features = {use.name: strided(x, mask, use.stride) for use, x, mask in inputs}
        by_training = [training(features) for training in self.trainings]
        return tuple(
            torch.stack([outputs[name] for outputs in by_training]).mean(dim=0)
            for name in self.outputs
        )


def strided(frames: Tensor, mask: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return the means of every `stride` real frames of `(batch, frames, ...)`, and their mask.

    The last mean of a clip may be of fewer frames.
    """
    if stride == 1:
        return frames, mask
    real = mask.float().unsqueeze(1)
    values = frames.flatten(2).transpose(1, 2).masked_fill(~mask.unsqueeze(1), 0.0)
    padded = (functional.pad(x, (0, stride - 1)) for x in (values, real))
    means, share = (functional.avg_pool1d(x, stride, stride) for x in padded)
    means = (means / share.clamp_min(1 / stride)).transpose(1, 2).unflatten(2, frames.shape[2:])
    return means, share.squeeze(1) > 0


def export_head(head: TrainedHead, path: Path, metadata: dict[str, str]) -> None:
    """Write the graph of a head; `metadata` goes into the file.

    Raises `UserError` for a head that has no graph.
    """
    for use in head.config.features:
        if use.normalize == "speaker":
            raise UserError(
                f"head '{head.saved.name}': it reads {use.name} with normalize: speaker, which "
                "needs all clips of a speaker; train it with normalize: corpus to export it."
            )
    graph, batch = HeadGraph(head).eval(), torch.export.Dim("batch")
    sample, shapes, names = [], [], []
    for i, use in enumerate(head.config.features):
        frames = (SAMPLE + i) * use.stride + use.stride // 2
        sample += [torch.randn(2, frames, *head.saved.record.frames[use.name])]
        sample += [torch.ones(2, frames, dtype=torch.bool)]
        shapes += [{0: batch, 1: torch.export.Dim(f"frames_{i}")}] * 2
        names += [use.name, f"{use.name}.mask"]
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (tuple(sample),),
                input_names=names,
                output_names=graph.outputs,
                dynamic_shapes=(tuple(shapes),),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = one_line(str(error.__cause__ or error).strip().split("\n")[0])[:200]
        raise UserError(
            f"head '{head.saved.name}' ({head.config.head}): PyTorch cannot export it ({reason}); "
            "use the run or its bundle."
        ) from error
    assert program is not None
    # where tracing needs a length the exporter makes the axis static, without an error
    axes = [axis for value in program.model.graph.inputs for axis in (value.shape or ())[:2]]
    if any(isinstance(axis, int) for axis in axes):
        raise UserError(
            f"head '{head.saved.name}' ({head.config.head}): its module computes with the lengths "
            "of a batch, which a graph cannot; use the run or its bundle."
        )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # tracebacks, with paths of this machine
    program.model.metadata_props.update(metadata)
    program.save(path)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporter logs: the caller reports what failed."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with redirect_stderr(StringIO()):  # of a graph that fails PyTorch prints the code
            yield
    finally:
        logging.disable(disabled)
