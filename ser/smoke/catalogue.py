"""The presets with their requirements, loaded and checked without their models and corpora."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from ser.corpus.errors import UserError
from ser.extract.extractor import EXTRACTORS, SAMPLE_RATE
from ser.extract.kinds.chat_options import ChatOptions
from ser.extract.kinds.prosody import HOP
from ser.extract.registry import APACHE, card
from ser.pipeline.baseline import is_reference
from ser.pipeline.file import Pipeline
from ser.presets import DESCRIPTIONS, names, preset

HOURS = 100
TOKENS = 4.0  # a second of speech: about 180 words a minute, 1.3 tokens a word
FREE = (APACHE, "MIT")  # beginnings of permissive licences


@dataclass(frozen=True)
class Requirements:
    """The requirements of a pipeline.

    `gigabytes` of cache for 100 hours of audio, without views; None where only the model itself
    knows a feature's size. `licences` lists the models that are neither Apache nor MIT, `not_legal`
    those that the challenge does not allow, `unknown` those without a card.
    """

    gigabytes: float | None
    licences: tuple[str, ...]
    not_legal: tuple[str, ...]
    unknown: tuple[str, ...]


def load(name: str) -> Pipeline:
    """Read and check a preset; environment variables are replaced by their names."""
    text = re.sub(r"\$\{(\w+)\}", r"\1", preset(name))
    with TemporaryDirectory(prefix="ser-presets-") as folder:
        path = Path(folder) / "presets" / f"{name}.yaml"
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
        try:
            return Pipeline.load(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), f"presets/{name}.yaml")) from error


def requirements(pipeline: Pipeline) -> Requirements:
    """Return the licences of a pipeline's models, and the size of its cache."""
    features = list(pipeline.features.values())
    models = [model for options in features if (model := options.weights) is not None]
    models += [config.model for config in pipeline.finetune.values()]
    models = [model for model in dict.fromkeys(models) if not _is_finetuned(pipeline, model)]
    cards = {model: card(model) for model in models}
    by_name = {Path(m).name: c for m, c in cards.items() if c is not None}
    bound = [f"{m}: {c.licence}" for m, c in by_name.items() if not c.licence.startswith(FREE)]
    if any(options.kind == "opensmile" for options in features):
        bound.append("openSMILE: audEERING, research")
    served = [f"{o.model}: terms of its server" for o in features if isinstance(o, ChatOptions)]
    return Requirements(
        _gigabytes(pipeline),
        (*bound, *served),
        tuple(m for m, c in by_name.items() if not c.challenge),
        tuple(m for m, c in cards.items() if c is None),
    )


def table() -> pl.DataFrame:
    """List the presets, one per row: description, features, heads and requirements."""
    return pl.DataFrame([_row(name) for name in names()])


def _row(name: str) -> dict[str, str]:
    pipeline = load(name)
    options = pipeline.features.items()
    frames = [name for name, o in options if EXTRACTORS.get(o.kind).gives == "frames"]
    return {
        "preset": name,
        "description": DESCRIPTIONS[name],
        "features": " ".join([*frames, *(f"{n}*" for n in pipeline.finetune)]),
        "heads": _heads(pipeline),
        "needs": _in_words(requirements(pipeline)),
    }


def _in_words(needs: Requirements) -> str:
    size = "no cache" if needs.gigabytes == 0 else "size of the cache unknown"
    if needs.gigabytes:
        size = f"{needs.gigabytes:.1f} GB of cache for {HOURS} h of audio"
    legal = f"not allowed in the challenge: {', '.join(needs.not_legal)}" if needs.not_legal else ""
    unknown = ", ".join(f"${name}" for name in needs.unknown)  # all others have cards
    parts = [size, *needs.licences, legal, f"weights from {unknown}" if unknown else ""]
    if not (legal or unknown):
        parts.append("all models allowed in the challenge")
    return "; ".join(part for part in parts if part)


def _heads(pipeline: Pipeline) -> str:
    heads = pipeline.heads
    kinds = [config.head for name, config in heads.items() if not is_reference(name, heads)]
    kinds += [f"{config.training.head}*" for config in pipeline.finetune.values()]
    counted = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    configs = [*heads.values(), *(config.training for config in pipeline.finetune.values())]
    if not any("logits" in config.gives for config in configs):  # the stack has no inputs
        return ", ".join(counted)
    return " + ".join([*counted, pipeline.stack.model])


def _is_finetuned(pipeline: Pipeline, model: str) -> bool:
    return Path(model).parent == (pipeline.run / "finetuned").resolve()


def _gigabytes(pipeline: Pipeline) -> float | None:
    """Return the size of the clean features of 100 hours; None if a size is unknown."""
    total = 0.0
    for options in pipeline.features.values():
        kind = EXTRACTORS.get(options.kind)
        if kind.gives != "frames" or options.remote:  # one frame per clip is negligible
            continue
        model = str(options.weights)
        if _is_finetuned(pipeline, model):  # as wide as its base
            model = pipeline.finetune[Path(model).name].model
        published = card(model)
        shape = (published.dim,) if published else getattr(kind, "item_shape", None)
        if shape is None or options.layers == "all":
            return None
        rate = TOKENS if kind.reads == "text" else (kind.frame_rate or SAMPLE_RATE / HOP)
        width = np.dtype(options.precision).itemsize
        total += HOURS * 3600 * rate * math.prod(shape) * width
    return total / 1e9
