"""A run's heads and stack as ONNX files in a folder, for runtimes without Python or PyTorch.

    heads/<head>.onnx   frames and masks -> logits, attributes
    stack.onnx          what the heads return -> emotion, probabilities, attributes
    README.md           inputs, outputs, classes

Features are not among them: their frames come from the models that the README names. What has no
graph is left out and named.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ser
from ser.cache.strides import as_layers
from ser.corpus.atomic import write_durably
from ser.corpus.errors import UserError, listed
from ser.packing.markdown import table
from ser.predict.predictor import Predictor

if TYPE_CHECKING:
    from ser.heads.feature_use import FeatureUse
    from ser.heads.trained import TrainedHead

OUTPUTS = ("logits", "attributes")  # of those that a head may have, what a prediction reads
START = """\
# {run} as ONNX

Graphs of {heads} of {run}, written by ser {version}. Batch and frames are dynamic, and padded
frames, whose mask is false, change no result. Features are not in the graphs: their frames come
from the models below, as `ser extract` computes and `ser cache export` writes them (rounded to the
precision that is named).

Classes, in the order of the outputs: {classes}. Attributes: {attributes}.
"""
STACK = """\
`stack.onnx` reads the outputs of all heads and returns the index of the `emotion` (batch,) int64
and the `probabilities` (batch, classes) float32, and the `attributes` where there are any. Trees
have steps: a logit that differs in its last digit may pass a threshold on the other side.
"""


def export(predictor: Predictor, folder: Path) -> list[str]:
    """Write the graphs of a run; return a sentence for each that it does not have.

    Args:
        predictor: the run, or a bundle, on the CPU.
        folder: where the files go; it is made if needed.

    Raises `UserError` for a folder that has files already.
    """
    from ser.packing.onnx_heads import export_head
    from ser.packing.onnx_stack import stack_graph

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: it exists and is not an empty folder; choose another one.")
    (folder / "heads").mkdir(parents=True, exist_ok=True)
    metadata = {"ser": ser.__version__, "classes": json.dumps(list(predictor.classes))}
    problems, written = [], []
    for head in predictor.trained_heads:
        attributes = {"attributes": json.dumps(list(head.saved.attributes))}
        try:
            export_head(head, folder / "heads" / f"{head.saved.name}.onnx", metadata | attributes)
            written.append(head)
        except UserError as error:
            problems.append(str(error))
    stacked = False
    if predictor.stack is not None:
        heads = [head.saved for head in predictor.trained_heads]
        classifiers = [head.name for head in heads if head.classifies]
        rated = [(head.name, len(head.attributes)) for head in heads if head.attributes]
        try:
            model = stack_graph(predictor.stack, len(predictor.classes), classifiers, rated)
            for key, value in (metadata | {"attributes": json.dumps(predictor.attributes)}).items():
                model.metadata_props.add(key=key, value=value)
            write_durably(folder / "stack.onnx", model.SerializeToString())
            stacked = True
        except UserError as error:
            problems.append(str(error))
    text = _readme(predictor, written, stacked, problems)
    write_durably(folder / "README.md", text.encode())
    return problems


def _readme(
    predictor: Predictor, heads: "Sequence[TrainedHead]", stacked: bool, problems: Sequence[str]
) -> str:
    parts = [
        START.format(
            run=predictor.source.name,
            heads=listed(predictor.heads),
            version=ser.__version__,
            classes=listed(predictor.classes) or "none",
            attributes=listed(predictor.attributes) or "none",
        ),
        *(f"**{note}**\n" for note in predictor.notes),
    ]
    for head in heads:
        rows = [row for use in head.config.features for row in _inputs(predictor, head, use)]
        rows += [
            (f"`{name}`", f"(batch, {width}) float32", "output")
            for name, width in head.saved.record.outputs.items()
            if name in OUTPUTS
        ]
        inputs = table(["name", "shape", "content"], rows)
        parts.append(f"## `heads/{head.saved.name}.onnx`\n\n{inputs}\n")
    if stacked:
        rows = [
            (f"`{head.saved.name}.{name}`", f"(batch, {width}) float32", f"its output `{name}`")
            for head in predictor.trained_heads
            for name, width in head.saved.record.outputs.items()
            if name in OUTPUTS
        ]
        inputs = table(["name", "shape", "content"], rows)
        parts.append(f"## `stack.onnx`\n\n{STACK}\n{inputs}\n")
    if problems:
        parts.append("## Without a graph\n\n" + "".join(f"- {line}\n" for line in problems))
    return "\n".join(parts)


def _inputs(
    predictor: Predictor, head: "TrainedHead", use: "FeatureUse"
) -> list[tuple[str, str, str]]:
    """Return the rows of a feature's frames and mask."""
    options = predictor.features.options[use.name]
    content = options.kind
    if options.pretrained is not None:
        content += f" of {Path(options.pretrained).name}"
    content += f", {options.precision}"
    layers = as_layers(use.layer)
    if layers is not None:
        content += f", layer {' and '.join(map(str, layers))}"  # side by side
    *inner, dim = head.saved.record.frames[use.name]
    shape = ", ".join(map(str, ["batch", "frames", *inner, dim]))
    return [
        (f"`{use.name}`", f"({shape}) float32", content),
        (f"`{use.name}.mask`", "(batch, frames) bool", "true where a frame is real"),
    ]
