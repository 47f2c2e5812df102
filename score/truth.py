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
from ser.score.heads import labels_of

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


def _from_heads(
    heads: Mapping[str, HeadLogits], attributes: Sequence[str], groups: Sequence[str]
) -> pl.DataFrame:
    label = labels_of(list(heads.values()))
    first = next(iter(heads.values()))
    speakers = _agreed(
        "speaker",
        {
            name: {
                utterance: speaker
                for rows in head.splits.values()
                for utterance, speaker in zip(rows.utterance, rows.speaker, strict=True)
            }
            for name, head in heads.items()
            if head is first or not _same_speakers(first, head)
        },
    )
    truth = pl.DataFrame(
        {
            "utterance": pl.Series(list(label), dtype=pl.String()),
            "label": pl.Series(list(label.values()), dtype=pl.Int64()),
            "speaker": pl.Series([speakers[utterance] for utterance in label], dtype=pl.String()),
        }
    )
    for name in attributes:
        truth = truth.join(_ratings(heads, name), "utterance", "left", maintain_order="left")
    truth = truth.with_columns(pl.col(TRUTH + name).fill_null(np.nan) for name in attributes)
    for name in groups:
        cells = _group(heads, name)
        if cells is not None:
            truth = truth.join(cells, "utterance", "left", maintain_order="left")
    return truth


def _same_speakers(first: HeadLogits, other: HeadLogits) -> bool:
    """Return whether both have the same rows: the usual case, decided without any dictionary."""
    return list(first.splits) == list(other.splits) and all(
        (rows.utterance, rows.speaker)
        == (other.splits[split].utterance, other.splits[split].speaker)
        for split, rows in first.splits.items()
    )


def _agreed(column: str, values: Mapping[str, dict[str, str]]) -> dict[str, str]:
    """Return the first head's values by utterance, which no other head may contradict.

    "" is an unknown value, as older files have, and contradicts nothing. Raises `UserError`.
    """
    first = next(iter(values.values()))
    agreed: dict[str, str] = {}
    for head, cells in values.items():
        if cells is not first and cells == first:
            continue
        for utterance, value in cells.items():
            if value and agreed.setdefault(utterance, value) != value:
                raise UserError(
                    f"logits.h5 of head '{head}': the {column} of '{utterance}' is not the one "
                    "that another head was trained with; train all heads on one manifest."
                )
    return first


def _group(heads: Mapping[str, HeadLogits], column: str) -> pl.DataFrame | None:
    """Return utterance and `group.<column>` as the first head has them; None if none has."""
    values = {
        name: {
            utterance: row[head.groups.index(column)]
            for rows in head.splits.values()
            for utterance, row in zip(rows.utterance, rows.groups or (), strict=True)
        }
        for name, head in heads.items()
        if column in head.groups
    }
    if not values:
        return None
    cells = _agreed(column, values)
    return pl.DataFrame(
        {"utterance": list(cells), GROUP + column: [cell or None for cell in cells.values()]},
        schema={"utterance": pl.String(), GROUP + column: pl.String()},
    )


def _ratings(heads: Mapping[str, HeadLogits], attribute: str) -> pl.DataFrame:
    """Gather the truth of one attribute from the heads that predict it, which must agree."""
    frames = [
        pl.DataFrame(
            {
                "utterance": rows.utterance,
                TRUTH + attribute: rows.truth[:, head.attributes.index(attribute)].astype(float),
                "head": [name] * len(rows.utterance),
            }
        )
        for name, head in heads.items()
        if attribute in head.attributes
        for rows in head.splits.values()
        if rows.truth is not None
    ]
    if not frames:
        return pl.DataFrame(schema={"utterance": pl.String(), TRUTH + attribute: pl.Float64()})
    columns = ["utterance", TRUTH + attribute]
    ratings = pl.concat(frames).unique(columns, keep="first", maintain_order=True)
    odd = ratings.filter(~pl.col("utterance").is_first_distinct())
    if odd.height:
        raise UserError(
            f"logits.h5 of head '{odd['head'][0]}': the {attribute} of '{odd['utterance'][0]}' is "
            "not the one that another head was trained with; train all heads on one manifest."
        )
    return ratings.select(columns)


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
    for column in groups:
        if column not in manifest.frame.columns:
            raise UserError(
                f"{manifest.source}: there is no column '{column}', which score.groups names; add "
                "it to the manifest or remove it from pipeline.yaml."
            )
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
        known = column in columns
        return pl.col(column).cast(pl.Float64).fill_null(0.0) if known else pl.lit(0.0)

    return [
        (counts(VOTE + name) + secondary * counts(FURTHER + name)).alias(VOTE + name)
        for name in classes
    ]
