"""What is true of the utterances that the heads have: the side that predictions are scored against.

It comes from the manifest when one is given, else from logits.h5 itself, always by utterance id.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from cache.logits import HeadLogits
from corpus.errors import UserError
from corpus.manifest import Manifest
from score.heads import labels_of

TRUTH, GROUP = "truth.", "group."


def known_rows(
    heads: Mapping[str, HeadLogits], manifest: Manifest | None, groups: Sequence[str]
) -> pl.DataFrame:
    """Return utterance, label, speaker, `truth.<attribute>` and `group.<column>`, one row an id.

    `label` is the class index (int64), -1 without one; `speaker` is null or "" where unknown; a
    truth is float64, NaN where unknown; a group is text, null for none. The attributes are those
    that any head predicts. Groups come from the manifest, so there are none without it.

    Raises `UserError` for heads that were taught different labels or ratings, and for a manifest
    that lacks an utterance, has another class or no such column.
    """
    attributes = list(dict.fromkeys(name for head in heads.values() for name in head.attributes))
    if manifest is None:
        return _from_heads(heads, attributes)
    return _from_manifest(heads, manifest, attributes, groups)


def _from_heads(heads: Mapping[str, HeadLogits], attributes: Sequence[str]) -> pl.DataFrame:
    label = labels_of(list(heads.values()))
    speakers = {
        utterance: speaker
        for rows in next(iter(heads.values())).splits.values()
        for utterance, speaker in zip(rows.utterance, rows.speaker, strict=True)
    }
    known = pl.DataFrame(
        {
            "utterance": pl.Series(list(label), dtype=pl.String()),
            "label": pl.Series(list(label.values()), dtype=pl.Int64()),
            "speaker": pl.Series([speakers[utterance] for utterance in label], dtype=pl.String()),
        }
    )
    for name in attributes:
        known = known.join(_ratings(heads, name), "utterance", "left", maintain_order="left")
    return known.with_columns(pl.col(TRUTH + name).fill_null(np.nan) for name in attributes)


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
) -> pl.DataFrame:
    first, head = next(iter(heads.items()))
    wanted = pl.DataFrame(
        {"utterance": [u for rows in head.splits.values() for u in rows.utterance]},
        schema={"utterance": pl.String()},
    ).unique(maintain_order=True)
    lacking = wanted.join(manifest.frame, "utterance", "anti", maintain_order="left")["utterance"]
    if len(lacking):
        raise UserError(
            f"{manifest.source}: utterance '{lacking[0]}', which head '{first}' has logits of, is "
            "missing; score with the manifest that the heads were trained on."
        )
    for column in groups:
        if column not in manifest.frame.columns:
            raise UserError(
                f"{manifest.source}: there is no column '{column}', which score.groups names; add "
                "it to the manifest or take it out of pipeline.yaml."
            )
    rows = wanted.join(manifest.frame, "utterance", "left", maintain_order="left")
    index = {name: i for i, name in enumerate(head.classes)}
    odd = rows.filter(pl.col("emotion").is_not_null() & ~pl.col("emotion").is_in(list(index)))
    if odd.height:
        raise UserError(
            f"{manifest.source}: emotion '{odd['emotion'][0]}' of '{odd['utterance'][0]}' is not a "
            f"class of the heads ({', '.join(index)}); train them with the same corpus.classes."
        )
    return rows.select(
        "utterance",
        pl.col("emotion").replace_strict(index, default=-1, return_dtype=pl.Int64).alias("label"),
        "speaker",
        *(pl.col(name).fill_null(np.nan).alias(TRUTH + name) for name in attributes),
        *(pl.col(name).cast(pl.String).alias(GROUP + name) for name in groups),
    )
