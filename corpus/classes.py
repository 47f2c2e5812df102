"""Which class an emotion counts as, and what becomes of the emotions that are no class.

The votes for an emotion go the way of the emotion: those for excited are added to those for happy
where excited is mapped to happy.
"""

from collections.abc import Mapping, Sequence
from typing import get_args

import polars as pl

from ser.corpus.cells import counted
from ser.corpus.columns import FURTHER, VOTE
from ser.corpus.config import CorpusConfig, Others
from ser.corpus.errors import UserError, nearest, similar
from ser.corpus.manifest import Manifest


def map_emotions(
    manifest: Manifest,
    mapping: Mapping[str, str],
    classes: Sequence[str] | None = None,
    others: Others = "error",
) -> Manifest:
    """Rename emotions, and their votes, by `mapping`; emotions that it does not name stay.

    Args:
        manifest: the corpus.
        mapping: emotion to class, as `{"excited": "happy"}`.
        classes: the classes, in the order of the logits; by default those that occur, sorted.
        others: what becomes of an utterance of an emotion that is not among `classes`: an `error`,
            `drop` to leave the utterance out, or `keep-unlabelled` to keep it without a class.

    The manifest's notes are followed by one on what was left out. Raises `UserError` for an emotion
    that is no class where `others` is `error`.
    """
    if others not in get_args(Others):
        raise UserError(f"others is '{others}'; use one of: {', '.join(get_args(Others))}.")
    frame = manifest.frame.with_columns(pl.col("emotion").replace(dict(mapping)))
    frame = _merge_votes(frame, mapping)
    notes = list(manifest.notes)
    if classes is not None:
        other = pl.col("emotion").is_not_null() & ~pl.col("emotion").is_in(list(classes))
        names = frame.filter(other)["emotion"]
        if len(names) and others == "error":
            raise UserError(
                f"{manifest.source}: no class is called {counted(names)}; map such emotions to a "
                "class, or give others as drop or keep-unlabelled."
            )
        if len(names):
            outcome = "left out" if others == "drop" else "kept without a class"
            notes.append(f"{outcome}, as no class is called so: {counted(names)}")
        if others == "drop":
            frame = frame.filter(~other)
        else:
            frame = frame.with_columns(emotion=pl.when(~other).then("emotion"))
    return Manifest(frame, classes, manifest.source, manifest.audio, notes)


def read_with_classes(config: CorpusConfig) -> Manifest:
    """Read the manifest of a pipeline with its classes.

    An emotion of `map` may be absent, as it is when rows that were read so are written and read
    again. Raises `UserError` where it is misspelt, and as `Manifest.read` and `map_emotions` do.
    """
    if not config.map and config.others == "error":
        return Manifest.read(config.manifest, config.classes)
    manifest = Manifest.read(config.manifest)
    emotions = emotions_of(manifest)
    unnamed = [e for e in emotions if e not in config.classes and e not in config.map]
    require_occurring({e: c for e, c in config.map.items() if similar(e, unnamed)}, manifest)
    return map_emotions(manifest, config.map, config.classes, config.others)


def emotions_of(manifest: Manifest) -> list[str]:
    """List the emotions that utterances have or raters chose."""
    columns = manifest.frame.columns
    voted = [c.removeprefix(p) for p in (VOTE, FURTHER) for c in columns if c.startswith(p)]
    return list(dict.fromkeys([*manifest.frame["emotion"].drop_nulls().unique().sort(), *voted]))


def require_occurring(mapping: Mapping[str, str | None], manifest: Manifest) -> None:
    """Raise `UserError` for an emotion of a mapping that the manifest does not have."""
    emotions = emotions_of(manifest)
    for name in mapping:
        if name not in emotions:
            raise UserError(
                f"{manifest.source}: no utterance has the emotion '{name}' that is mapped to "
                f"'{mapping[name] or 'null'}'; {nearest(name, emotions)}"
            )


def _merge_votes(frame: pl.DataFrame, mapping: Mapping[str, str]) -> pl.DataFrame:
    """Add the votes for every emotion of a mapping to those for its class."""
    for prefix in (VOTE, FURTHER):
        sources: dict[str, list[str]] = {}
        for column in [name for name in frame.columns if name.startswith(prefix)]:
            emotion = column.removeprefix(prefix)
            sources.setdefault(prefix + mapping.get(emotion, emotion), []).append(column)
        merged = {name: columns for name, columns in sources.items() if columns != [name]}
        if merged:
            sums = [
                pl.when(pl.any_horizontal(pl.col(columns).is_not_null()))
                .then(pl.sum_horizontal(columns))
                .alias(name)
                for name, columns in merged.items()
            ]
            merged_columns = {column for columns in merged.values() for column in columns}
            frame = frame.with_columns(sums).drop(merged_columns - set(merged))
    return frame
