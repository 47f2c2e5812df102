"""What each preset is: loaded and checked where nothing that it names needs to be there."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from corpus.errors import UserError
from extract.extractor import SAMPLE_RATE, FeatureOptions, extractor_class, weights_of
from extract.kinds.llm import LLMOptions
from extract.kinds.prosody import HOP
from extract.models import APACHE, ModelCard, card
from presets import PUBLISHED, names, preset
from ser.pipeline import Pipeline

HOURS = 100
TOKENS = 4.0  # a second of speech: about 180 words a minute, 1.3 tokens a word
FREE = (APACHE, "MIT")  # what a licence that forbids next to nothing begins with


@dataclass(frozen=True)
class Needs:
    """Say what a pipeline needs.

    `gigabytes` of cache for 100 hours of audio, views of it not counted; None where a feature's
    size is known to its model only. `licences` name the models that are neither Apache nor MIT,
    `not_legal` those that the challenge does not allow, `unknown` those without a card.
    """

    gigabytes: float | None
    licences: tuple[str, ...]
    not_legal: tuple[str, ...]
    unknown: tuple[str, ...]


def load(name: str) -> Pipeline:
    """Read and check a preset; its environment variables stand for themselves."""
    text = re.sub(r"\$\{(\w+)\}", r"\1", preset(name))
    with TemporaryDirectory(prefix="ser-presets-") as folder:
        path = Path(folder) / "presets" / f"{name}.yaml"
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
        try:
            return Pipeline.load(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), f"presets/{name}.yaml")) from error


def needs(pipeline: Pipeline) -> Needs:
    """Return what a pipeline needs of models, and how large its cache is."""
    features = list(pipeline.features.values())
    used = [model for model in map(weights_of, features) if model is not None]
    used += [config.model for config in pipeline.finetune.values()]
    used = [model for model in dict.fromkeys(used) if not _made_here(pipeline, model)]
    cards = {model: card(model) for model in used}
    known = {Path(m).name: c for m, c in cards.items() if c is not None}
    bound = [f"{m}: {c.licence}" for m, c in known.items() if not c.licence.startswith(FREE)]
    opensmile = ["openSMILE: audEERING, research"] if "opensmile" in _kinds(features) else []
    asked = [f"{o.model}: as its server says" for o in features if isinstance(o, LLMOptions)]
    return Needs(
        _gigabytes(pipeline),
        (*bound, *opensmile, *asked),
        tuple(m for m, c in known.items() if not c.challenge),
        tuple(m for m, c in cards.items() if c is None),
    )


def table() -> pl.DataFrame:
    """List every preset: its published result, features, heads and needs, a row each."""
    return pl.DataFrame([_row(name) for name in names()])


def _row(name: str) -> dict[str, Any]:
    pipeline = load(name)
    return {
        "preset": name,
        "result": PUBLISHED.get(name, "small"),
        "features": " ".join([*_frames(pipeline), *(f"{n}*" for n in pipeline.finetune)]),
        "heads": _heads(pipeline),
        "needs": _in_words(needs(pipeline)),
    }


def _in_words(of: Needs) -> str:
    size = "cache unknown" if of.gigabytes is None else f"{of.gigabytes:.1f} GB/{HOURS} h"
    legal = f"not for the challenge: {', '.join(of.not_legal)}" if of.not_legal else ""
    unknown = f"no card: {', '.join(of.unknown)}" if of.unknown else ""
    said = [size, *of.licences, legal, unknown]
    if not (legal or unknown):
        said.append("challenge-legal")
    return "; ".join(part for part in said if part)


def _heads(pipeline: Pipeline) -> str:
    kinds = [config.head for config in pipeline.heads.values()]
    kinds += [f"{config.training.head}*" for config in pipeline.finetune.values()]
    counted = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    return " + ".join([*counted, pipeline.stack.model]) if _tells(pipeline) else ", ".join(counted)


def _tells(pipeline: Pipeline) -> bool:
    """Tell whether a head tells classes, so that the stack's model has something to do."""
    configs = [*pipeline.heads.values(), *(c.training for c in pipeline.finetune.values())]
    return any("logits" in config.gives for config in configs)


def _frames(pipeline: Pipeline) -> list[str]:
    options = pipeline.features.items()
    return [name for name, o in options if extractor_class(o.kind).gives == "frames"]


def _kinds(features: Sequence[FeatureOptions]) -> set[str]:
    return {options.kind for options in features}


def _made_here(pipeline: Pipeline, model: str) -> bool:
    return Path(model).parent == (pipeline.run / "finetuned").resolve()


def _gigabytes(pipeline: Pipeline) -> float | None:
    """Return the size of the clean features of 100 hours; a copy of a model is as wide as it."""
    total = 0.0
    for options in pipeline.features.values():
        kind = extractor_class(options.kind)
        if kind.gives != "frames" or options.remote:  # one frame a clip is next to nothing
            continue
        model = str(weights_of(options))
        if _made_here(pipeline, model):
            model = pipeline.finetune[Path(model).name].model
        known = card(model)
        shape = _shape(known, kind)
        if shape is None or getattr(options, "layer", None) == "all":
            return None
        rate = TOKENS if kind.reads == "text" else (kind.frame_rate or SAMPLE_RATE / HOP)
        width = np.dtype(options.precision).itemsize
        total += HOURS * 3600 * rate * shape * width
    return total / 1e9


def _shape(known: ModelCard | None, kind: Any) -> int | None:
    if known is not None:
        return known.dim
    shape = getattr(kind, "item_shape", None)
    return None if shape is None else int(np.prod(shape))
