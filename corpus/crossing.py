"""Trainings across corpora: on each corpus alone, and on all but one.

A training on one corpus keeps the corpus's own splits, and every other corpus is test. A training
on all but one keeps their train and dev, leaves their test rows out, and tests the one. Classes are
those that the training rows have: rows of other classes are neither learned from nor scored. Rows
that are in no split, or have no corpus, are left out.
"""

from dataclasses import dataclass

import polars as pl

from ser.corpus.errors import UserError, plural
from ser.corpus.manifest import Manifest
from ser.corpus.rotations import slug, text_column


@dataclass(frozen=True)
class Crossing:
    """One training: what it is trained on and without, its classes, the split of each row.

    `trained` is the corpus, or None for all but `left_out`.
    """

    name: str
    trained: str | None
    left_out: str | None
    classes: tuple[str, ...]
    split: pl.Series


def crossings(manifest: Manifest, by: str = "corpus") -> list[Crossing]:
    """Return the trainings across the corpora that the column `by` names.

    With two corpora there are none on all but one, which would be those on one alone. Raises
    `UserError` for a single corpus, and for one without training rows or with fewer than two
    classes.
    """
    column = text_column(manifest, by)
    corpora = column.drop_nulls().unique().sort().to_list()
    if len(corpora) < 2:
        raise UserError(
            f"{manifest.source}: {by} has {plural(len(corpora), 'value')}; training on one and "
            "testing on another needs 2 or more: `ser corpus join` joins corpora."
        )
    kinds = (True, False) if len(corpora) > 2 else (True,)
    return [_crossing(manifest, column, corpus, by, alone) for alone in kinds for corpus in corpora]


def _crossing(manifest: Manifest, column: pl.Series, corpus: str, by: str, alone: bool) -> Crossing:
    """Return the training on a corpus alone, or on all but that one."""
    own, split = (column == corpus).fill_null(False), manifest.frame["split"]
    if alone:
        tested, kept, rows = ~own, own, f"{by} '{corpus}'"
    else:
        tested, kept, rows = own, split.is_in(["train", "dev"]), f"all but {by} '{corpus}'"
    in_split = column.is_not_null() & (split != "")
    splits = pl.select(
        pl.when(in_split & tested)
        .then(pl.lit("test"))
        .when(in_split & kept)
        .then(split)
        .otherwise(pl.lit(""))
        .alias("split")
    )["split"]
    classes = _classes(manifest, splits, rows)
    if alone:
        return Crossing(f"train-{slug(corpus)}", corpus, None, classes, splits)
    return Crossing(f"without-{slug(corpus)}", None, corpus, classes, splits)


def _classes(manifest: Manifest, split: pl.Series, rows: str) -> tuple[str, ...]:
    """Return the classes of the training rows, in the manifest's order."""
    trained = set(manifest.frame["emotion"].filter(split == "train").drop_nulls())
    if len(trained) < 2:
        raise UserError(
            f"{manifest.source}: the train rows of {rows} have fewer than two classes "
            f"({len(trained)}); `ser corpus split` divides a corpus into train, dev and test."
        )
    return tuple(name for name in manifest.classes if name in trained)
