"""A pipeline made small: tiny models, one epoch, narrow heads, made-up data; all else as it is."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from ser.pipeline import Pipeline
from ser.presets.models import LAYERS, tiny_model

KINDS = ("asr", "whisper", "speech", "text", "facodec")  # those that run a model
# where a head has these widths, they are this; the numbers of heads and layers are as published
NARROW = {"hidden": 32, "feed_forward": 32, "classifier": 32}
BATCH = 16
SCORE = {"bootstrap": 10, "resamples": 50}
LEFT_OUT = ("init", "log")  # weights of other widths; a service


def shrink(pipeline: Pipeline, folder: Path, texts: Sequence[str], server: str) -> dict[str, Any]:
    """Return what the small pipeline.yaml says; its models are written to `<folder>/models`.

    The corpus is `folder`'s own (`ser.presets.corpus`), and cache and run go there; what is asked
    of a server is asked of `server` (`ser.presets.server`). Features, layers (as far as there are),
    heads, losses, samplers, phases and the stack are the pipeline's.
    Raises `UserError` for a model whose architecture is not known, and for imported features.
    """
    raw: dict[str, Any] = copy.deepcopy(dict(pipeline.raw))
    small = _Small(pipeline, folder, texts)
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
        entry = small.feature(raw["features"][name], options)
        raw["features"][name] = entry | ({"server": server} if options.remote else {})
    for name, config in pipeline.heads.items():
        entry = _merged(raw["heads"], name)
        uses = [use.model_dump(mode="json", exclude_defaults=True) for use in config.features]
        features = [_clamped(use) for use in uses]
        narrow = _narrowed(entry, config.architecture) | {"features": features}
        raw["heads"][name] = narrow
    for name, tuned in pipeline.finetune.items():
        entry = _merged(raw["finetune"], name)
        narrow = _narrowed(entry, tuned.training.architecture)
        raw["finetune"][name] = small.tuned(narrow, tuned.kind, tuned.model)
    for section in ("heads", "finetune"):
        if section in raw:  # defaults are merged in
            raw[section].pop("defaults", None)
    return raw


class _Small:
    """Replace models by tiny ones, each once."""

    def __init__(self, pipeline: Pipeline, folder: Path, texts: Sequence[str]) -> None:
        self._pipeline, self._folder, self._texts = pipeline, folder, texts

    def feature(self, entry: Mapping[str, Any], options: Any) -> dict[str, Any]:
        """Return an entry of `features:` with its tiny model."""
        if options.kind == "imported":
            raise UserError(
                f"{self._pipeline.source}: smoke: imported features cannot be made of other data; "
                "leave them out."
            )
        said = {k: v for k, v in entry.items() if k not in ("quantize", "compile")}
        if options.kind not in KINDS:
            return said
        made = Path(options.model)
        if made.parent == (self._pipeline.run / "finetuned").resolve():
            model = self._folder / "run" / "finetuned" / made.name
        else:
            model = self._model(options.kind, options.model)
        return _clamped(said) | {"kind": options.kind, "model": str(model)}

    def tuned(self, entry: Mapping[str, Any], kind: str, model: str) -> dict[str, Any]:
        """Return an entry of `finetune:` with its tiny model."""
        said = _clamped(entry) | {"kind": kind, "model": str(self._model(kind, model))}
        freeze = said.get("freeze")
        if freeze:
            parts = [freeze] if isinstance(freeze, str) else freeze
            said["freeze"] = [_frozen(str(part)) for part in parts]
        return said

    def _model(self, kind: str, model: str) -> Path:
        return tiny_model(kind, model, self._folder / "models", self._texts)


def _merged(section: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**(section.get("defaults") or {}), **section[name]}


def _narrowed(entry: Mapping[str, Any], architecture: Any) -> dict[str, Any]:
    """Return a head's entry with few epochs and small widths."""
    widths = {key: width for key, width in NARROW.items() if hasattr(architecture, key)}
    said = {k: v for k, v in entry.items() if k not in LEFT_OUT} | widths
    said["batch"] = min(BATCH, said.get("batch", BATCH))
    if said.get("phases"):
        said["phases"] = [phase | {"epochs": 1} for phase in said["phases"]]
    else:
        said["epochs"] = min(1, said.get("epochs", 1))
    return said


def _clamped(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry whose layers, counted from the first, are ones that a tiny model has."""
    layer = entry.get("layer")
    if isinstance(layer, list | tuple):
        return {**entry, "layer": list(dict.fromkeys(_near(at) for at in layer))}
    return {**entry, "layer": _near(layer)} if isinstance(layer, int) else dict(entry)


def _near(layer: int) -> int:
    return max(-LAYERS - 1, min(layer, LAYERS))


def _frozen(part: str) -> str:
    name, _, count = part.partition(":")
    return f"{name}:{min(int(count), LAYERS)}" if count else name
