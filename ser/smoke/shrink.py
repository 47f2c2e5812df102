"""A scaled-down pipeline: tiny models, one epoch, narrow heads, synthetic data."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

from ser.corpus.bounded_yaml import Entry
from ser.corpus.errors import UserError
from ser.extract.extractor import FeatureOptions
from ser.heads.config import merged
from ser.heads.options import Architecture
from ser.pipeline.file import Pipeline
from ser.synthetic.models import LAYERS, WINDOW, tiny_model

# those that run a model
KINDS = {"asr", "ctc", "recognizer", "whisper", "speech", "text", "facodec", "local_audio_llm"}
# these widths of a head are reduced; its numbers of attention heads and layers are as published
NARROW = {"hidden": 32, "feed_forward": 32, "classifier": 32}
BATCH = 16
SCORE = {"bootstrap": 10, "resamples": 50}
LEFT_OUT = ("init", "log")  # weights of other widths; a service
Tiny = Callable[[str, str], Path]  # the folder of the tiny model of a kind and a model


def shrink(pipeline: Pipeline, folder: Path, texts: Sequence[str], server: str) -> Entry:
    """Return the content of the small pipeline.yaml; write its models to `<folder>/models`.

    The corpus is that of `folder` (`ser.synthetic.corpus`), and cache and run are written there;
    features of a server use `server` (`ser.synthetic.server`). Features, layers (as far as the tiny
    models have them), heads, losses, samplers, phases and the stack are the pipeline's. Raises
    `UserError` for a model of an unknown architecture, and for imported features.
    """
    raw = copy.deepcopy(pipeline.raw)

    def tiny(kind: str, model: str) -> Path:
        return tiny_model(kind, model, folder / "models", texts)

    raw |= {
        "corpus": {
            "manifest": str(folder / "manifest.parquet"),
            "audio": str(folder / "audio"),
            "classes": list(pipeline.corpus.classes),
        },
        "cache": str(folder / "cache"),
        "run": str(folder / "run"),
        "score": (raw.get("score") or {}) | SCORE,
    }
    if pipeline.plugins:
        raw["plugins"] = list(pipeline.plugins)
    for name, options in pipeline.features.items():
        entry = _feature(raw["features"][name], options, pipeline, folder, tiny)
        raw["features"][name] = entry | ({"server": server} if options.remote else {})
    for name, config in pipeline.heads.items():
        entry = merged(raw["heads"].get("defaults") or {}, raw["heads"][name] or {})
        uses = [use.model_dump(mode="json", exclude_defaults=True) for use in config.features]
        features = [_clamped(use) for use in uses]
        narrow = _narrowed(entry, config.architecture) | {"features": features}
        raw["heads"][name] = narrow
    for name, tuned in pipeline.finetune.items():
        entry = (raw["finetune"].get("defaults") or {}) | raw["finetune"][name]
        narrow = _narrowed(entry, tuned.training.architecture)
        model = {"kind": tuned.kind, "model": str(tiny(tuned.kind, tuned.model))}
        freeze = {"freeze": _frozen(narrow["freeze"])} if narrow.get("freeze") else {}
        raw["finetune"][name] = _clamped(narrow) | model | freeze
    for section in ("heads", "finetune"):
        if section in raw:  # defaults are merged in
            raw[section].pop("defaults", None)
    return raw


def _feature(
    entry: Entry, options: FeatureOptions, pipeline: Pipeline, folder: Path, tiny: Tiny
) -> Entry:
    """Return an entry of `features:` with its tiny model."""
    if options.kind in ("imported", "imported_transcripts"):
        raise UserError(
            f"{pipeline.source}: smoke: imported features cannot be computed for a "
            "synthetic corpus; leave them out."
        )
    small = {k: v for k, v in entry.items() if k not in ("quantize", "compile")}
    if options.kind not in KINDS:
        return small
    if small.get("pad_to"):
        small["pad_to"] = min(small["pad_to"], WINDOW)
    own = Path(name := str(options.pretrained))
    if own.parent == (pipeline.run / "finetuned").resolve():
        model = folder / "run" / "finetuned" / own.name
    else:
        model = tiny(options.kind, name)
    return _clamped(small) | {"kind": options.kind, "model": str(model)}


def _narrowed(entry: Entry, architecture: Architecture) -> Entry:
    """Return a head's entry with few epochs and small widths."""
    widths = {key: width for key, width in NARROW.items() if hasattr(architecture, key)}
    small: Entry = {k: v for k, v in entry.items() if k not in LEFT_OUT} | widths
    if architecture.solved:
        return small
    small["batch"] = min(BATCH, small.get("batch", BATCH))
    if small.get("phases"):
        small["phases"] = [phase | {"epochs": 1} for phase in small["phases"]]
    else:
        small["epochs"] = min(1, small.get("epochs", 1))
    return small


def _clamped(entry: Entry) -> Entry:
    """Return an entry whose layers are limited to those of a tiny model."""
    layer = entry.get("layer")
    if isinstance(layer, list | tuple):
        return {**entry, "layer": list(dict.fromkeys(_nearest(index) for index in layer))}
    return {**entry, "layer": _nearest(layer)} if isinstance(layer, int) else dict(entry)


def _nearest(layer: int) -> int:
    return max(-LAYERS - 1, min(layer, LAYERS))


def _frozen(freeze: str | Sequence[str]) -> list[str]:
    """Return the frozen parts of a model, their layers limited to those of a tiny one."""
    parts = [freeze] if isinstance(freeze, str) else freeze
    split = (str(part).partition(":") for part in parts)
    return [f"{name}:{min(int(count), LAYERS)}" if count else name for name, _, count in split]
