"""What a caller gives an estimator: utterance ids, their labels, and where the features are."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ser.cache.features import FeatureCache
from ser.cache.upkeep import every_folder
from ser.corpus.errors import UserError, nearest
from ser.heads.training.targets import Labelled

Caches = str | Path | FeatureCache | Mapping[str, FeatureCache]
Utterances = Sequence[str] | np.ndarray
Labels = Sequence[object] | np.ndarray


def as_ids(X: Utterances) -> list[str]:
    """Return utterance ids as text; raises `UserError` for anything but a flat array of text."""
    values = np.asarray(X)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise UserError(
            f"X: an array of shape {values.shape}; give a flat array of utterance ids, whose "
            "features are read from the cache."
        )
    ids = values.tolist()
    other = next((value for value in ids if not isinstance(value, str)), None)
    if other is not None:
        raise UserError(f"X: {other!r:.60} is not an utterance id; give ids as text.")
    return list(ids)


def as_labels(y: Labels) -> np.ndarray:
    """Return labels `(utterances,)`; raises `UserError` for a missing one or another shape."""
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(f"y: an array of shape {labels.shape}; give one label for each utterance.")
    missing = [i for i, label in enumerate(labels.tolist()) if _is_missing(label)]
    if missing:
        raise UserError(
            f"y: {len(missing)} of {len(labels)} labels are missing (the first is y[{missing[0]}]);"
            " leave out utterances without a label."
        )
    return labels


def _is_missing(label: object) -> bool:
    return label is None or (isinstance(label, float) and math.isnan(label))


def labelled_ids(
    utterances: list[str], labels: np.ndarray, classes: np.ndarray, name: str
) -> Labelled:
    """Return utterances with class indices; raises `UserError` for labels that do not fit them."""
    if len(utterances) != len(labels):
        raise UserError(
            f"{name}: {len(utterances)} utterances and {len(labels)} labels; give one label for "
            "each utterance."
        )
    if not utterances:
        raise UserError(f"{name}: it has no utterance; give some.")
    places = np.searchsorted(classes, labels).clip(0, len(classes) - 1)
    unknown = np.flatnonzero(classes[places] != labels)
    if len(unknown):
        raise UserError(
            f"{name}: the label {labels[unknown[0]].item()!r} is not among those of y; leave out "
            "such utterances."
        )
    return Labelled(utterances, places.astype(np.int64), speakers=[None] * len(utterances))


def open_caches(cache: Caches | None, names: Sequence[str]) -> dict[str, FeatureCache]:
    """Open features by name; raises `UserError` where a name is none or more than one."""
    if cache is None:
        raise UserError(
            "HeadClassifier: `cache` is missing; give the folder of the feature cache, as "
            "cache='data/cache'."
        )
    if isinstance(cache, FeatureCache):
        cache = {cache.name: cache}
    if isinstance(cache, Mapping):
        absent = [name for name in names if name not in cache]
        if absent:
            raise UserError(
                f"cache: the feature '{absent[0]}' is not among those given; "
                f"{nearest(absent[0], cache)}"
            )
        return {name: cache[name] for name in names}
    return {name: _only_version(cache, name) for name in names}


def _only_version(cache: str | Path, name: str) -> FeatureCache:
    versions = [f for f in every_folder(cache, name) if isinstance(f, FeatureCache)]
    if len(versions) == 1:
        return versions[0]
    problem = f"{len(versions)} versions of the feature" if versions else "no feature"
    raise UserError(
        f"{cache}: there {'are' if versions else 'is'} {problem} '{name}'; extract it, or give "
        "`cache` as a mapping of names to `FeatureCache(folder)`."
    )
