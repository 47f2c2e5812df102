"""The ground truth of the heads' utterances, which predictions are scored against.

It comes from the manifest if one is given, else from logits.h5, always by utterance id.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from ser.cache.logits import HeadLogits
from ser.corpus.columns import ATTRIBUTES, FURTHER, VOTE
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest

TRUTH, GROUP, PREDICTED = "truth.", "group.", "predicted."


def ground_truth(
    heads: Mapping[str, HeadLogits],
    manifest: Manifest | None,
    groups: Sequence[str],
    secondary_votes: float = 0.0,
) -> pl.DataFrame:
    """Return utterance, label, speaker, `truth.<attribute>` and `group.<column>`, one row an id.

    A manifest with raters' votes adds `votes.<class>` of every class, float64: first choices, and
    further ones by the weight `secondary_votes`.

    `label` is the class index (int64), -1 without one; `speaker` is null or "" where unknown; a
    truth is float64, NaN where unknown; a group is text, null for none. The attributes are those
    that any head predicts. Without the manifest, groups are those of `groups` that the heads'
    `logits.h5` have (`missing_groups` names the others).

    Raises `UserError` for heads trained on different labels, ratings, speakers or groups, and for a
    manifest that lacks an utterance, has another class or no such column.
    """
    attributes = list(dict.fromkeys(name for head in heads.values() for name in head.attributes))
    if manifest is None:
        return _from_heads(heads, attributes, groups)
    return _from_manifest(heads, manifest, attributes, groups, secondary_votes)


def missing_groups(heads: Iterable[HeadLogits], groups: Sequence[str]) -> list[str]:
    """Name the groups that no head's `logits.h5` has: scoring by them needs the manifest."""
    stored = {name for head in heads for name in head.groups}
    return [name for name in groups if name not in stored]


def require_groups(manifest: Manifest, groups: Sequence[str]) -> None:
    """Raise `UserError` for a group that is not a column of the manifest."""
    for column in groups:
        if column not in manifest.frame.columns:
            raise UserError(
                f"{manifest.source}: there is no column '{column}', which score.groups names; add "
                "it to the manifest or remove it from pipeline.yaml."
            )


def emotion_of(classes: Sequence[str]) -> pl.Expr:
    """Return the expression of the column `emotion`: the class of `label`, null for -1."""
    names = dict(enumerate(classes))
    named = pl.col("label").replace_strict(names, default=None, return_dtype=pl.String())
    return named.alias("emotion")


def indices_of(names: pl.Series, classes: Sequence[str]) -> np.ndarray:
    """Return the index of each class name: int64 `(rows,)`."""
    index = {name: i for i, name in enumerate(classes)}
    return names.replace_strict(index, return_dtype=pl.Int64()).to_numpy()


def scored_attributes(rows: pl.DataFrame) -> list[str]:
    """Return the attributes of which rows have predictions and the truth."""
    names = [c.removeprefix(PREDICTED) for c in rows.columns if c.startswith(PREDICTED)]
    return [name for name in names if TRUTH + name in rows.columns]


def is_rated(attributes: Sequence[str]) -> pl.Expr:
    """Return the expression that is true in a row with the truth of one of these attributes."""
    return pl.any_horizontal(pl.lit(False), *(pl.col(TRUTH + a).is_not_nan() for a in attributes))


def _from_heads(
    heads: Mapping[str, HeadLogits], attributes: Sequence[str], groups: Sequence[str]
) -> pl.DataFrame:
    stored = {name for head in heads.values() for name in head.groups}
    ratings = [TRUTH + name for name in attributes]
    cells = [GROUP + name for name in dict.fromkeys(groups) if name in stored]
    schema = {"utterance": pl.String(), "label": pl.Int64(), "speaker": pl.String()}
    schema |= dict.fromkeys(ratings, pl.Float64()) | dict.fromkeys(cells, pl.String())
    frames = {name: _stored(head, schema) for name, head in heads.items()}
    first = next(iter(frames.values()))
    rows = pl.concat(
        frame.with_columns(head=pl.lit(name))
        for name, frame in frames.items()
        if frame is first or not frame.equals(first)  # most heads store the same
    )
    columns = [name for name in schema if name != "utterance"]
    for column in columns:
        _require_agreement(rows, column)
    truth = rows.group_by("utterance", maintain_order=True).agg(
        pl.col(columns).drop_nulls().first()
    )
    return truth.with_columns(pl.col(ratings).fill_null(np.nan), pl.col(cells).replace("", None))


def _stored(head: HeadLogits, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return what a head's `logits.h5` has of these columns; "" is unknown text."""
    frames = [pl.DataFrame(schema=schema)]
    for rows in head.splits.values():
        cells: dict[str, list[str] | np.ndarray] = {
            "utterance": rows.utterance,
            "label": rows.label,
            "speaker": rows.speaker,
        }
        if rows.truth is not None:
            cells |= {TRUTH + name: rows.truth[:, i] for i, name in enumerate(head.attributes)}
        for i, name in enumerate(head.groups):
            cells[GROUP + name] = [row[i] for row in rows.groups or ()]
        series = (pl.Series(n, cells[n], dtype) for n, dtype in schema.items() if n in cells)
        frames.append(pl.DataFrame(series))
    return pl.concat(frames, how="diagonal")


def _require_agreement(rows: pl.DataFrame, column: str) -> None:
    """Raise `UserError` where heads have different values of one utterance; "" contradicts none."""
    values = rows.select("utterance", "head", column).drop_nulls(column)
    if rows.schema[column] == pl.String():
        values = values.filter(pl.col(column) != "")
    values = values.unique(["utterance", column], keep="first", maintain_order=True)
    odd = values.filter(~pl.col("utterance").is_first_distinct())
    if odd.height:
        name = column.removeprefix(TRUTH).removeprefix(GROUP)
        raise UserError(
            f"logits.h5 of head '{odd['head'][0]}': the {name} of '{odd['utterance'][0]}' is not "
            "the one that another head was trained with; train all heads on one manifest."
        )


def _from_manifest(
    heads: Mapping[str, HeadLogits],
    manifest: Manifest,
    attributes: Sequence[str],
    groups: Sequence[str],
    secondary_votes: float,
) -> pl.DataFrame:
    first, head = next(iter(heads.items()))
    scored = pl.DataFrame(
        {"utterance": [u for rows in head.splits.values() for u in rows.utterance]},
        schema={"utterance": pl.String()},
    ).unique(maintain_order=True)
    lacking = scored.join(manifest.frame, "utterance", "anti", maintain_order="left")["utterance"]
    if len(lacking):
        raise UserError(
            f"{manifest.source}: utterance '{lacking[0]}', which head '{first}' has logits of, is "
            "missing; score with the manifest that the heads were trained on."
        )
    require_groups(manifest, groups)
    rows = scored.join(manifest.frame, "utterance", "left", maintain_order="left")
    index = {name: i for i, name in enumerate(head.classes)}
    odd = rows.filter(pl.col("emotion").is_not_null() & ~pl.col("emotion").is_in(list(index)))
    if odd.height:
        raise UserError(
            f"{manifest.source}: emotion '{odd['emotion'][0]}' of '{odd['utterance'][0]}' is not a "
            f"class of the heads ({', '.join(index)}); train them with the same corpus.classes."
        )
    return _truth_of(rows, head.classes, attributes, groups, secondary_votes)


def manifest_truth(
    manifest: Manifest, groups: Sequence[str], secondary_votes: float = 0.0
) -> pl.DataFrame:
    """Return the truth of all utterances of a manifest, with the columns of `ground_truth`.

    It has all attributes, the groups that are columns of the manifest, and `split`.
    """
    present = [column for column in groups if column in manifest.frame.columns]
    truth = _truth_of(manifest.frame, manifest.classes, ATTRIBUTES, present, secondary_votes)
    return truth.with_columns(manifest.frame["split"])


def _truth_of(
    rows: pl.DataFrame,
    classes: Sequence[str],
    attributes: Sequence[str],
    groups: Sequence[str],
    secondary_votes: float,
) -> pl.DataFrame:
    """Return the columns of `ground_truth` of rows of a manifest."""
    index = {name: i for i, name in enumerate(classes)}
    return rows.select(
        "utterance",
        pl.col("emotion").replace_strict(index, default=-1, return_dtype=pl.Int64).alias("label"),
        "speaker",
        *(pl.col(name).fill_null(np.nan).alias(TRUTH + name) for name in attributes),
        *(pl.col(name).cast(pl.String).alias(GROUP + name) for name in groups),
        *_votes(rows.columns, classes, secondary_votes),
    )


def _votes(columns: Sequence[str], classes: Sequence[str], secondary: float) -> list[pl.Expr]:
    """Return the votes of each class; none where the manifest has votes for no class."""
    if not any(VOTE + name in columns for name in classes):
        return []

    def counts(column: str) -> pl.Expr:
        present = column in columns
        return pl.col(column).cast(pl.Float64).fill_null(0.0) if present else pl.lit(0.0)

    return [
        (counts(VOTE + name) + secondary * counts(FURTHER + name)).alias(VOTE + name)
        for name in classes
    ]
