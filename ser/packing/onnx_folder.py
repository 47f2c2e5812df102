"""A run's heads and stack as ONNX files in a folder, for runtimes without Python or PyTorch.

    heads/<head>.onnx   frames and masks -> logits, attributes
    stack.onnx          what the heads return -> emotion, probabilities, attributes
    README.md           inputs, outputs, classes, features, licence
    card.md             the card, of a bundle

Features are not among them: their frames come from the models that the README names. What has no
graph is left out and named.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

import ser
from ser.cache.strides import as_layers
from ser.cache.swap import staged_folder
from ser.corpus.errors import UserError, listed
from ser.extract.extractor import EXTRACTORS
from ser.extract.registry import card
from ser.packing.card import licence_terms
from ser.packing.markdown import table
from ser.predict.archive import CARD
from ser.predict.predictor import Predictor

if TYPE_CHECKING:
    from ser.extract.extractor import FeatureOptions
    from ser.heads.feature_use import FeatureUse
    from ser.heads.trained import TrainedHead

COLUMNS = ("name", "shape", "content")
START = """\
# {run} as ONNX

Graphs of {heads} of {run}, written by ser {version}. Batch and frames are dynamic, and padded
frames, whose mask is false, change no result. At least one frame of each clip must be real.

Classes, in the order of the outputs: {classes}. Attributes: {attributes}.
"""
FEATURES = """\
Features are not in the graphs: `ser extract` computes their frames, of mono audio at 16 kHz, and
`ser cache export` writes them. In a pipeline.yaml with the options below, they are those that the
heads were trained on. Options that are not listed have their defaults; frames are rounded to the
precision.
"""
STACK = """\
`stack.onnx` reads the outputs of all heads. Trees have steps: a logit that differs in its last
digit may pass a threshold on the other side.
"""
UNSURE = "A prediction is `unsure` where its highest probability is below {threshold:g}.\n"
NO_LICENCE = """\
{run} states no licence. The terms of the corpora that it was trained on hold for the graphs, too.
"""
SEE_CARD = (
    "`card.md` is the card of the bundle: intended use, limits, scores, licences of the models."
)


def export(predictor: Predictor, folder: Path) -> list[str]:
    """Write the graphs of a run; return a sentence for each that it does not have.

    Args:
        predictor: the run, or a bundle, on the CPU.
        folder: where the files go, all of them or none; it and its parents are made if needed.

    Raises `UserError` for a folder that has files already, or cannot be made.
    """
    from ser.packing.onnx_heads import export_head
    from ser.packing.onnx_stack import stack_graph

    _require_empty(folder)
    record, metadata = predictor.record, {"ser": ser.__version__}
    metadata["classes"] = json.dumps(list(predictor.classes))
    if record is not None and record.licence is not None:
        metadata["licence"] = record.licence
    problems, written, stacked = [], [], False
    with staged_folder(folder.resolve()) as part:
        (part / "heads").mkdir()
        for head in predictor.trained_heads:
            attributes = {"attributes": json.dumps(list(head.saved.attributes))}
            try:
                graph = part / "heads" / f"{head.saved.name}.onnx"
                export_head(head, graph, metadata | attributes)
                written.append(head)
            except UserError as error:
                problems.append(str(error))
        if predictor.stack is not None:
            saved = [head.saved for head in predictor.trained_heads]
            classifiers = [head.name for head in saved if head.classifies]
            rated = [(head.name, len(head.attributes)) for head in saved if head.attributes]
            metadata["attributes"] = json.dumps(predictor.attributes)
            try:
                model = stack_graph(predictor.stack, len(predictor.classes), classifiers, rated)
                for key, value in metadata.items():
                    model.metadata_props.add(key=key, value=value)
                (part / "stack.onnx").write_bytes(model.SerializeToString())
                stacked = True
            except UserError as error:
                problems.append(str(error))
        if record is not None:
            (part / CARD).write_bytes((predictor.run / CARD).read_bytes())
        text = _readme(predictor, written, stacked, problems)
        (part / "README.md").write_text(text, encoding="utf-8")
    return problems


def _require_empty(folder: Path) -> None:
    """Make the parents of a folder; raises `UserError` for one that has files."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        full = folder.exists() and any(folder.iterdir())
    except (FileExistsError, NotADirectoryError) as error:
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise UserError(f"{folder}: {file} is not a folder; choose another one.") from error
    if full:
        raise UserError(f"{folder}: it exists and is not an empty folder; choose another one.")


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
        *([UNSURE.format(threshold=low)] if (low := predictor.min_confidence) else []),
        f"## Licence\n\n{_licence(predictor)}\n",
        f"## Features\n\n{FEATURES}\n{_features(predictor)}\n",
    ]
    for head in heads:
        rows = [row for use in head.config.features for row in _inputs(head, use)]
        rows += [(f"`{name}`", shape, "output") for name, shape in _outputs(head)]
        parts.append(f"## `heads/{head.saved.name}.onnx`\n\n{table(COLUMNS, rows)}\n")
    if stacked:
        rows = [
            (f"`{head.saved.name}.{name}`", shape, f"its output `{name}`")
            for head in predictor.trained_heads
            for name, shape in _outputs(head)
        ]
        if predictor.classes:
            shape = f"(batch, {len(predictor.classes)}) float32"
            rows.append(("`emotion`", "(batch,) int64", "output: the index of the class"))
            rows.append(("`probabilities`", shape, "output: of the classes"))
        if predictor.attributes:
            shape = f"(batch, {len(predictor.attributes)}) float32"
            rows.append(("`attributes`", shape, "output"))
        parts.append(f"## `stack.onnx`\n\n{STACK}\n{table(COLUMNS, rows)}\n")
    if problems:
        parts.append("## Without a graph\n\n" + "".join(f"- {line}\n" for line in problems))
    return "\n".join(parts)


def _licence(predictor: Predictor) -> str:
    """Return the licence, the terms of the corpora and the limits, as far as they are known."""
    none = NO_LICENCE.format(run=predictor.source.name)
    if predictor.record is None:
        return none
    stated = licence_terms(predictor.record)
    summary = [predictor.summary] if predictor.summary is not None else []
    return "\n\n".join([*([] if predictor.record.licence else [none]), *stated, *summary, SEE_CARD])


def _features(predictor: Predictor) -> str:
    """Return the table of all features, with the options that are not the defaults."""
    rows = []
    for name in predictor.features.names:
        options = predictor.features.options[name]
        shown = options.model_dump(mode="json", exclude_defaults=True, exclude={"augment"})
        if options.pretrained is not None:
            shown["model"] = Path(options.pretrained).name  # no path of this machine
        shown["precision"] = options.precision
        text = yaml.safe_dump(
            shown, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
        )
        rate = _frame_rate(options)
        rows.append((f"`{name}`", f"`{text.strip()}`", "" if rate is None else f"{rate:g} Hz"))
    return table(["name", "options", "frame rate"], rows)


def _frame_rate(options: "FeatureOptions") -> float | None:
    """Return the frames a second where they are known without loading the model."""
    if options.pretrained is None:
        return EXTRACTORS.get(options.kind).frame_rate
    model = card(options.pretrained)
    return model.frame_rate if model is not None and model.kind == options.kind else None


def _inputs(head: "TrainedHead", use: "FeatureUse") -> list[tuple[str, str, str]]:
    """Return the rows of a feature's frames and mask."""
    layers = as_layers(use.layer)
    content = "frames of the feature"
    if layers is not None:
        content += f", layer {' and '.join(map(str, layers))}"  # side by side
    *inner, dim = head.saved.record.frames[use.name]
    shape = ", ".join(map(str, ["batch", "frames", *inner, dim]))
    return [
        (f"`{use.name}`", f"({shape}) float32", content),
        (f"`{use.name}.mask`", "(batch, frames) bool", "true where a frame is real"),
    ]


def _outputs(head: "TrainedHead") -> list[tuple[str, str]]:
    """Return the names and shapes of the outputs that a prediction reads."""
    return [(name, f"(batch, {width}) float32") for name, width in head.saved.outputs.items()]
