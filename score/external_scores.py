"""The scores of other tools' predictions, alone or beside those of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from ser.corpus.errors import UserError, plural
from ser.corpus.manifest import Manifest
from ser.score.comparison import Comparison
from ser.score.config import ScoreConfig
from ser.score.external import read_external
from ser.score.pairs import System, compare_systems, with_truth
from ser.score.run import SCORED
from ser.score.scores import Metrics, Score, SystemScores
from ser.score.system import score_system
from ser.score.truth import manifest_truth


@dataclass(frozen=True)
class ExternalScores:
    """The scores of tables of predictions; `comparisons` are those with the first system.

    `metrics` has the form of metrics.json, with `missing` in every entry: the utterances of the
    split that have no prediction and are left out. `classes` has the corpus's and those that only
    a tool predicts. `notes` are sentences about the tables.
    """

    metrics: Metrics
    classes: tuple[str, ...]
    comparisons: list[Comparison]
    notes: list[str]


def score_alone(
    files: Sequence[Path], manifest: Manifest, config: ScoreConfig, *, partial: bool = False
) -> ExternalScores:
    """Score tables of predictions against a manifest, and compare the others with the first.

    Where the manifest has neither dev nor test, all its utterances are scored, as test. Raises
    `UserError` as `read_external` does, and for a manifest without a label or a rating.
    """
    truth, notes = manifest_truth(manifest, config.groups, config.secondary_votes), []
    if not truth["split"].is_in(SCORED).any():
        truth = truth.with_columns(split=pl.lit("test"))
        notes.append(
            f"{manifest.source}: it has no dev and no test split; all of its "
            f"{plural(truth.height, 'utterance')} are scored, as test."
        )
    scores = score_external(files, truth, manifest.classes, config, partial=partial)
    if not scores.metrics:
        raise UserError(
            f"{manifest.source}: no utterance of dev or test that a table predicts has a label; "
            "give the manifest that has the labels."
        )
    return replace(scores, notes=[*notes, *scores.notes])


def score_external(
    files: Sequence[Path],
    truth: pl.DataFrame,
    classes: Sequence[str],
    config: ScoreConfig,
    *,
    reference: System | None = None,
    partial: bool = False,
) -> ExternalScores:
    """Score tables of predictions, and compare each with the `reference`, or with the first.

    `truth` has the columns of `ser.score.truth.ground_truth`, and `split`.
    """
    tools = [read_external(file, truth, classes, partial=partial) for file in files]
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):  # of files in several folders
        tools = [replace(tool, name=str(file)) for tool, file in zip(tools, files, strict=True)]
    everything = tuple(dict.fromkeys((*classes, *(c for tool in tools for c in tool.classes))))
    metrics: Metrics = {}
    for split in SCORED:
        for tool in tools:
            rows = tool.frame.filter(pl.col("split") == split).drop("split")
            rows = rows.join(truth, "utterance", maintain_order="left")
            if scores := score_system(rows, split, tool.classes, config):
                scores = with_classes(scores, everything)
                scores.missing = tool.missing[split]
                metrics.setdefault(split, {})[tool.name] = scores
    labels = truth.drop("split")
    systems = [
        System(str(file), tool.name, tool.classes, with_truth(tool.frame, labels, classes))
        for file, tool in zip(files, tools, strict=True)
    ]
    first, *others = systems if reference is None else [reference, *systems]
    comparisons = [
        compare_systems(other, first, resamples=config.resamples, seed=config.seed)
        for other in others
    ]
    notes = [note for tool in tools for note in tool.notes]
    return ExternalScores(metrics, everything, comparisons, notes)


def with_classes(scores: SystemScores, classes: Sequence[str]) -> SystemScores:
    """Return the scores of a system with further classes, which no row has.

    So that systems with different classes can be shown in one table.
    """
    own = scores.classes
    if own is None or len(own.per_class) == len(classes):
        return scores
    places = [classes.index(name) for name in own.per_class]
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    matrix[np.ix_(places, places)] = own.confusion
    per_class = {name: own.per_class.get(name, Score(value=0.0)) for name in classes}
    wider = own.model_copy(update={"per_class": per_class, "confusion": matrix.tolist()})
    return scores.model_copy(update={"classes": wider})
