"""Rotations of a corpus: each part of it is the test set once.

1. Take the values of one column of the manifest (speaker, session, fold, …), in order; women and
   men alternate where the column is the speaker.
2. Make each value a part, or with `groups` put them into that many parts of nearly equal size.
3. For each part, mark its rows `test`, choose dev from the other rows, and mark the rest `train`.

Rows without a value in the column are in no split, and in a manifest that has splits so are rows
that are in none.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from ser.corpus.cells import texts
from ser.corpus.columns import COLUMNS
from ser.corpus.config import Name, Section
from ser.corpus.errors import Note, UserError, listed, nearest, plural
from ser.corpus.manifest import Manifest
from ser.corpus.split import split_manifest

DevRule = Literal["next", "none", "share"]
DEV_SHARE = 0.2
FOLD = "fold"
LONGEST = 100  # bytes of a value in the name of a folder


class RotationConfig(Section):
    """The `cv` section of pipeline.yaml: how `ser cv` rotates the corpus.

    `by` is a column of the manifest. `groups` is the number of parts; by default each value is one.
    `dev` is the next part (`next`), a speaker-disjoint fifth of the rows that are not tested
    (`share`), or `none`; by default `next` for speakers and `share` for other columns.
    """

    by: Name = "speaker"
    groups: Annotated[int, Field(ge=2, le=1000)] | None = None
    dev: DevRule | None = None

    @property
    def dev_rule(self) -> DevRule:
        """Return how dev is chosen."""
        return self.dev or ("next" if self.by == "speaker" else "share")

    @property
    def name(self) -> str:
        """Return the name of the folder of these rotations."""
        return slug(self.by) + ("" if self.groups is None else f"-{self.groups}-groups")


@dataclass(frozen=True)
class Rotation:
    """One rotation: its name, the values of the column that are tested, the split of each row."""

    name: str
    tested: tuple[str, ...]
    split: pl.Series


def rotations(manifest: Manifest, config: RotationConfig) -> list[Rotation]:
    """Return the rotations of a corpus, each of its parts in test once.

    Raises `UserError` for a column that is absent or empty, for too few parts, and for a column
    that has several values for one speaker; of published folds, which may be so, warns with a
    `Note`.
    """
    column = config.by
    values = _ordered(manifest, column)
    parts = _parts(values, config, manifest.source)
    least = 3 if config.dev_rule == "next" else 2
    if len(parts) < least:
        raise UserError(
            f"{manifest.source}: cv.by: {column} has {plural(len(parts), 'part')}; "
            f"`dev: {config.dev_rule}` needs {least} or more."
        )
    _check_speakers(manifest, column)
    names = _names(parts, config)
    return [
        Rotation(name, tuple(part), _split(manifest, config, parts, number))
        for number, (name, part) in enumerate(zip(names, parts, strict=True))
    ]


def slug(value: str) -> str:
    """Return a value as part of a file's name, never one that means another folder."""
    name = re.sub(r"[^\w.-]|^\.", "_", value)
    return name.encode()[:LONGEST].decode(errors="ignore")


def text_column(manifest: Manifest, column: str) -> pl.Series:
    """Return a column as text, null where it is empty; raises `UserError` without any value."""
    frame = manifest.frame
    if column not in frame.columns:
        raise UserError(
            f"{manifest.source}: there is no column '{column}'; {nearest(column, frame.columns)}"
        )
    cells = texts(frame[column], manifest.source)
    cells = pl.select(pl.when(cells == "").then(None).otherwise(cells).alias(column))[column]
    if not cells.null_count() < len(cells):
        filled = [name for name in COLUMNS if frame[name].null_count() < frame.height]
        raise UserError(
            f"{manifest.source}: the column '{column}' is empty; fill it in, or use one of those "
            f"that have values: {listed(filled)}."
        )
    return cells


def _ordered(manifest: Manifest, column: str) -> list[str]:
    """List the values of a column; speakers of each gender in turn."""
    cells = text_column(manifest, column)
    rows = pl.DataFrame({"value": cells, "gender": manifest.frame["gender"]}).drop_nulls("value")
    rows = rows.sort("value", maintain_order=True)
    rows = rows.unique("value", keep="first", maintain_order=True)
    if column != "speaker":
        return rows["value"].to_list()
    by_gender = [part["value"].to_list() for part in rows.partition_by("gender")]
    return [value for turn in zip_longest(*by_gender) for value in turn if value is not None]


def _parts(values: Sequence[str], config: RotationConfig, source: str) -> list[list[str]]:
    count = len(values) if config.groups is None else config.groups
    if count > len(values):
        raise UserError(
            f"{source}: cv.groups is {count}, but {config.by} has only "
            f"{plural(len(values), 'value')}; use {len(values)} groups or fewer."
        )
    return [part.tolist() for part in np.array_split(np.array(values, object), count)]


def _check_speakers(manifest: Manifest, column: str) -> None:
    """Refuse a speaker with two values in the column, or warn: test speakers are trained on."""
    values = manifest.frame.select("speaker", value=text_column(manifest, column)).drop_nulls()
    counts = values.group_by("speaker").agg(pl.col("value").unique().sort()).sort("speaker")
    divided = counts.filter(pl.col("value").list.len() > 1)
    if divided.height:
        speaker, (first, second, *_) = divided.row(0)
        if column == FOLD:
            problem = (
                f"{manifest.source}: speaker '{speaker}' is in fold '{first}' and '{second}', so "
                "the scores are not those of unseen speakers."
            )
            warnings.warn(problem, Note, stacklevel=3)
            return
        raise UserError(
            f"{manifest.source}: cv.by: speaker '{speaker}' has {column} '{first}' and '{second}', "
            "so a test speaker would be trained on; rotate a column with one value a speaker."
        )


def _names(parts: Sequence[Sequence[str]], config: RotationConfig) -> list[str]:
    width = len(str(len(parts)))
    if config.groups is not None:
        return [f"group-{number:0{width}}" for number in range(1, len(parts) + 1)]
    names = [f"{slug(config.by)}-{slug(part[0])}" for part in parts]
    if len({name.lower() for name in names}) == len(names):
        return names
    return [f"{name}-{number:0{width}}" for number, name in enumerate(names, 1)]


def _split(
    manifest: Manifest, config: RotationConfig, parts: Sequence[Sequence[str]], number: int
) -> pl.Series:
    """Return the split of every row when one part is tested."""
    values = text_column(manifest, config.by)
    test, following = parts[number], parts[(number + 1) % len(parts)]
    own = manifest.frame["split"]
    left_out = values.is_null() | ((own == "") & (own != "").any())
    split = np.where(values.is_in(test).fill_null(False), "test", "train").astype(object)
    if config.dev_rule == "next":
        split[values.is_in(following).fill_null(False).to_numpy()] = "dev"
    split[left_out.to_numpy()] = ""
    if config.dev_rule == "share":
        rest = np.flatnonzero(split == "train").tolist()
        rows = Manifest(manifest.frame[rest], manifest.classes, manifest.source)
        has_speakers = rows.frame["speaker"].null_count() < len(rows)
        by = "speaker" if has_speakers else "utterance"
        split[rest] = split_manifest(rows, by, test=0, dev=DEV_SHARE).frame["split"].to_list()
    return pl.Series("split", split.tolist(), dtype=pl.String)
