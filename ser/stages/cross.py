"""Training on one corpus, testing on another: a matrix, and leave one corpus out.

    <run>/cross/<by>/train-<corpus>/     a run of its own, trained on this corpus
    <run>/cross/<by>/without-<corpus>/   trained on all others, tested on this one
    <run>/cross/<by>/cross.json          the scores of all

1. Write the run of each training.
2. Extract the features once, train the heads of all runs as one list, fit and score a stack
   in each (`ser.stages.subruns.run_subruns`).
3. Score every run on every corpus.

What is up to date is skipped in the first two steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ser.corpus.atomic import write_if_changed
from ser.corpus.crossing import Crossing, crossings
from ser.corpus.manifest import Manifest
from ser.corpus.rotations import slug, text_column
from ser.pipeline.file import Pipeline, read_manifest
from ser.score.cross import FILE, Cell, Cross, score_cells
from ser.stages.subruns import require_rotatable, write_subrun


@dataclass(frozen=True)
class CrossPlan:
    """All trainings across the corpora of a manifest, and the run of each by its name."""

    folder: Path
    by: str
    manifest: Manifest
    trainings: Sequence[Crossing]
    runs: dict[str, Pipeline]


def plan(pipeline: Pipeline, by: str = "corpus") -> CrossPlan:
    """Write the run of every training; raises `UserError` as `crossings` does."""
    require_rotatable(pipeline)
    manifest = read_manifest(pipeline)
    trainings = crossings(manifest, by)
    folder = pipeline.run / "cross" / slug(by)
    runs = {
        training.name: write_subrun(
            pipeline, folder / training.name, manifest, training.split, classes=training.classes
        )
        for training in trainings
    }
    return CrossPlan(folder, by, manifest, trainings, runs)


def score(planned: CrossPlan) -> Cross:
    """Score trained runs on every corpus and write cross.json."""
    column = text_column(planned.manifest, planned.by)
    rows = zip(planned.manifest.frame["utterance"], column, strict=True)
    corpora = dict(sorted(((u, c) for u, c in rows if c is not None), key=lambda row: row[1]))
    cells: list[Cell] = []
    for training in planned.trainings:
        run = planned.runs[training.name]
        cells += score_cells(run.run, run.systems, training.trained, corpora, run.score)
    record = Cross(
        by=planned.by,
        corpora=list(dict.fromkeys(corpora.values())),
        cells=cells,
        baseline=run.baseline,
    )
    write_if_changed(planned.folder / FILE, record.to_json())
    return record
