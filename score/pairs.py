"""Two systems, of one run or of two, compared on the utterances that both have.

Utterances are paired by id within one split. Both systems are scored on the same resamples of
speakers, so the difference has an interval and a p (`ser.score.compare`). Classes are compared by
name, and so are attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import polars as pl

from ser.cache.logits import HeadLogits
from ser.corpus.errors import UserError, listed, plural
from ser.corpus.manifest import Manifest
from ser.score.agreement import agreement
from ser.score.attributes import ccc, resampled_ccc
from ser.score.bootstrap import Resamples, resample_speakers
from ser.score.compare import Paired, compare_attributes, compare_classes
from ser.score.comparison import Comparison, Difference, Pair, Score
from ser.score.heads import classifies, read_heads
from ser.score.metrics import confusion, macro_f1, per_class_f1
from ser.score.record import StackSummary, has_stack, stack_file
from ser.score.run import SCORED, STACK, of_head, of_stack
from ser.score.speakers import speakers_note
from ser.score.truth import (
    PREDICTED,
    TRUTH,
    emotion_of,
    ground_truth,
    indices_of,
    is_rated,
    scored_attributes,
)


class Options(TypedDict):
    """The options of a speaker bootstrap."""

    resamples: int
    seed: int


@dataclass(frozen=True)
class System:
    """A system's predictions with the truth, one row per utterance.

    `rows` has utterance, split, emotion, speaker and, of what is predicted, prediction, p.<class>,
    predicted.<attribute> and truth.<attribute>.
    """

    source: str
    name: str
    classes: tuple[str, ...]
    rows: pl.DataFrame


def read_system(run: Path, name: str | None = None, manifest: Manifest | None = None) -> System:
    """Read a system of a run: the stack, or else the head that is best on dev.

    Args:
        run: its folder.
        name: a head, or "stack".
        manifest: where labels and ratings are read from; by default from the logits.

    Raises `UserError` for a folder without trained heads, an unknown system, and damaged files.
    """
    folder = run / "heads"
    heads = sorted(file.parent.name for file in folder.glob("*/logits.h5"))
    if not heads:
        raise UserError(f"{run}: no head of it is trained; give the folder of a trained run.")
    names = [*heads, *([STACK] if has_stack(run) else [])]
    if name is not None and name not in names:
        raise UserError(f"{run}: it has no system '{name}'; its systems are {listed(names)}.")
    if (name or names[-1]) == STACK:
        chosen, logits = STACK, read_heads(folder, list(StackSummary.read(stack_file(run)).heads))
        frame = of_stack(run, logits)
    else:
        logits = read_heads(folder, heads if name is None else [name])
        chosen = name or _best(run, logits)
        logits = {chosen: logits[chosen]}
        frame = of_head(logits[chosen])
    classes = next(iter(logits.values())).classes
    truth = ground_truth(logits, manifest, ())
    return System(str(run), chosen, classes, with_truth(frame, truth, classes))


def with_truth(frame: pl.DataFrame, truth: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Return the `rows` of a `System`: predictions joined with the truth by id."""
    truth = truth.with_columns(emotion_of(classes)).drop("label")
    return frame.join(truth, "utterance", maintain_order="left")


def _best(run: Path, heads: dict[str, HeadLogits]) -> str:
    """Name the head that is best on dev: by macro-F1, those of attributes alone by mean CCC."""
    if len(heads) > 1 and not any("dev" in head.splits for head in heads.values()):
        raise UserError(
            f"{run}: there is no stack, and no dev split to choose a head by; name one of "
            f"{listed(heads)}."
        )

    def score(name: str) -> tuple[float, float]:
        head, f1, rated = heads[name], -2.0, -2.0
        if (rows := head.splits.get("dev")) is None:
            return f1, rated
        if classifies(head) and (rows.label >= 0).any():
            predictions = rows.logits.argmax(axis=1)
            f1 = float(macro_f1(confusion(rows.label, predictions, len(head.classes))))
        if rows.truth is not None and rows.predicted is not None:
            rated = float(ccc(rows.truth, rows.predicted).mean())
        return f1, rated

    return max(heads, key=score)


def compare_systems(
    first: System,
    second: System,
    split: str | None = None,
    *,
    resamples: int = 1000,
    seed: int = 42,
) -> Comparison:
    """Compare two systems on the utterances of a split that both have.

    `split` is test by default, or dev where not both have labels or ratings on test. Raises
    `UserError` where there is nothing to compare, or where their labels or ratings differ.
    """
    split = split or next((s for s in reversed(SCORED) if _shared(first, second, s)), "test")
    one, other = (_scored(system, split) for system in (first, second))
    both = one.join(other, "utterance", suffix=".second", maintain_order="left")
    if not both.height:
        raise UserError(
            f"{first.source} and {second.source} have no labelled utterance of {split} in common; "
            "compare runs of one corpus, on a split that both have."
        )
    attributes = [name for name in scored_attributes(one) if PREDICTED + name in other.columns]
    for column in ("emotion", *(TRUTH + name for name in attributes)):
        _require_same(both, column, first, second)
    labelled = both.filter(pl.col("emotion").is_not_null())
    if "prediction" not in one.columns or "prediction" not in other.columns:
        labelled = labelled.clear()
    rated = both.filter(is_rated(attributes))
    rows = labelled if labelled.height else rated
    if not rows.height:
        raise UserError(
            f"{first.name} of {first.source} and {second.name} of {second.source} predict nothing "
            f"that both have labels of on {split}; compare systems of the same kind."
        )
    options = Options(resamples=resamples, seed=seed)
    speakers = resample_speakers(rows["speaker"].to_list(), 1, seed).speakers
    comparison = Comparison(
        split,
        _title(first),
        _title(second),
        first_lacks=other.join(one, "utterance", "anti").height,
        second_lacks=one.join(other, "utterance", "anti").height,
        n=rows.height,
        speakers=speakers,
        speakers_note=speakers_note(speakers, split),
        ccc=_compare_ratings(rated, attributes, options) if rated.height else {},
    )
    if not labelled.height:
        return comparison
    return _with_labels(comparison, labelled, first.classes, second.classes, options)


def _title(system: System) -> str:
    return f"{system.source}: {system.name}"


def _scored(system: System, split: str) -> pl.DataFrame:
    """Return the rows of a split that have a label or a rating."""
    rows = system.rows.filter(pl.col("split") == split)
    truth = [name.removeprefix(TRUTH) for name in rows.columns if name.startswith(TRUTH)]
    return rows.filter(pl.col("emotion").is_not_null() | is_rated(truth))


def _shared(first: System, second: System, split: str) -> bool:
    return _scored(first, split).join(_scored(second, split), "utterance").height > 0


def _require_same(both: pl.DataFrame, column: str, first: System, second: System) -> None:
    pair = pl.col(column), pl.col(f"{column}.second")
    if both.schema[column].is_float():
        pair = pair[0].fill_nan(None), pair[1].fill_nan(None)
    odd = both.filter(pair[0].ne_missing(pair[1]))
    if odd.height:
        row = odd.row(0, named=True)
        raise UserError(
            f"'{row['utterance']}': its {column.removeprefix(TRUTH)} is {row[column]} in "
            f"{first.source} and {row[f'{column}.second']} in {second.source} "
            f"({plural(odd.height, 'such utterance')}); compare runs with the same labels."
        )


def _with_labels(
    comparison: Comparison,
    rows: pl.DataFrame,
    first: Sequence[str],
    second: Sequence[str],
    options: Options,
) -> Comparison:
    """Add the comparison of the emotions; `first` and `second` are the classes of both systems."""
    classes = list(dict.fromkeys((*first, *second)))
    labels, one, other = (
        indices_of(rows[column], classes)
        for column in ("emotion", "prediction", "prediction.second")
    )
    speakers = rows["speaker"].to_list()
    draw = resample_speakers(speakers, **options)
    matrices = np.stack([confusion(labels, side, len(classes)) for side in (one, other)])
    drawn = np.stack([draw.confusions(labels, side, len(classes)) for side in (one, other)])
    f1 = per_class_f1(matrices)
    # a class that a resample lacks has no F1 in it
    drawn_f1 = np.where(drawn.any(axis=-1), per_class_f1(drawn), np.nan)
    tested = compare_classes(labels, one, other, speakers, len(classes), **options)
    return replace(
        comparison,
        macro_f1=_pair(draw, macro_f1(matrices), macro_f1(drawn), tested),
        per_class={
            name: _pair(draw, f1[:, i], drawn_f1[..., i])
            for i, name in enumerate(classes)
            if matrices[0, i].any()
        },
        mcnemar=tested["mcnemar"],
        agreement=agreement(labels, one, other),
    )


def _compare_ratings(
    rows: pl.DataFrame, attributes: Sequence[str], options: Options
) -> dict[str, Pair]:
    """Return the CCC of every attribute that is rated, and of their mean."""
    speakers = rows["speaker"].to_list()
    draw = resample_speakers(speakers, **options)
    matrices = [
        rows.select(f"{prefix}{a}{suffix}" for a in attributes).to_numpy()
        for prefix, suffix in ((TRUTH, ""), (PREDICTED, ""), (PREDICTED, ".second"))
    ]
    rated = np.flatnonzero(~np.isnan(matrices[0]).all(axis=0)).tolist()
    pairs = {}
    for name, chosen in ({attributes[i]: [i] for i in rated} | {"mean": rated}).items():
        truth, first, second = (matrix[:, chosen] for matrix in matrices)
        values = np.stack([ccc(truth, side).mean() for side in (first, second)])
        drawn = [resampled_ccc(draw, truth, side).mean(axis=1) for side in (first, second)]
        tested = compare_attributes(truth, first, second, speakers, **options)
        pairs[name] = _pair(draw, values, np.stack(drawn), tested)
    return pairs


def _pair(
    draw: Resamples, values: np.ndarray, drawn: np.ndarray, tested: Paired | None = None
) -> Pair:
    """Return the scores of both systems, `values` and the `drawn` ones, and their difference."""
    if tested is not None:
        difference = Difference(tested["difference"], tested["interval"], tested["p"])
    else:
        difference = Difference(float(values[0] - values[1]), draw.interval(drawn[0] - drawn[1]))
    first, second = (Score(float(v), draw.interval(d)) for v, d in zip(values, drawn, strict=True))
    return Pair(first, second, difference)
