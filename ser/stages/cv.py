"""Cross-validation: every part of the corpus is the test set once, and all of it is one result.

    <run>/cv/<by>/<rotation>/          a run of its own: manifest, pipeline.yaml, heads, stack, …
    <run>/cv/<by>/{heads,stack}/       the test rows of all rotations, pooled
    <run>/cv/<by>/report/              their scores, over all speakers
    <run>/cv/<by>/rotations.json       the scores of each rotation
    <run>/cv/<by>/seed-<n>/            the same with other seeds of the heads, n from 2 on

1. Write the run of each rotation.
2. Extract the features once, as they do not depend on the split.
3. Train the heads of all rotations and repetitions as one list, and fit and score a stack in
   each.
4. Pool the test rows of the rotations and score them.

What is up to date is skipped in every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ser.corpus.atomic import write_if_changed
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.corpus.rotations import Rotation, RotationConfig, rotations, slug
from ser.pipeline.file import Pipeline, read_manifest
from ser.score.rotations import FILE, RepetitionScores, Rotations, pool_heads, rotation_scores
from ser.score.run import score_run
from ser.score.scores import Metrics
from ser.stack.rotations import pool_stacks
from ser.stages.subruns import require_rotatable, write_subrun


@dataclass(frozen=True)
class Repetition:
    """All rotations with one seed of each head; `pooled` is the run of their pooled test rows."""

    number: int  # from 1 on; 1 has the pipeline's own seeds
    pooled: Pipeline
    runs: dict[str, Pipeline]

    @property
    def prefix(self) -> str:
        """Return what precedes the names of its rotations in progress and reports."""
        return "" if self.number == 1 else f"seed-{self.number}/"


@dataclass(frozen=True)
class CrossValidation:
    """A finished cross-validation: the pooled run, its scores, those of the rotations."""

    pooled: Pipeline
    metrics: Metrics
    rotations: Rotations


def plan(pipeline: Pipeline, config: RotationConfig, seeds: int = 1) -> list[Repetition]:
    """Write the run of every rotation, and of every repetition; return them.

    Raises `UserError` for a corpus that cannot be rotated so, and a pipeline that fine-tunes.
    """
    require_rotatable(pipeline)
    manifest = read_manifest(pipeline)
    parts = rotations(manifest, config)
    folder = pipeline.run / "cv" / config.name
    return [
        _write_repetition(pipeline, folder if n == 1 else folder / f"seed-{n}", manifest, parts, n)
        for n in range(1, seeds + 1)
    ]


def pooled_file(pipeline: Pipeline, name: str) -> Path:
    """Return the pipeline.yaml of a cross-validation's pooled run; raises `UserError` without it.

    `name` is that of its folder, as speaker or speaker-5-groups.
    """
    folder = pipeline.run / "cv"
    path = folder / slug(name) / "pipeline.yaml"
    if not (path.parent / FILE).is_file():
        done = sorted(file.parent.name for file in folder.glob(f"*/{FILE}"))
        others = f"finished are {', '.join(done)}" if done else "none is finished"
        raise UserError(
            f"{path.parent}: there is no finished cross-validation by '{name}' ({others}); run "
            f"`ser cv --by {name}`."
        )
    return path


def _write_repetition(
    pipeline: Pipeline, folder: Path, manifest: Manifest, parts: Sequence[Rotation], number: int
) -> Repetition:
    runs = {
        part.name: write_subrun(pipeline, folder / part.name, manifest, part.split, seed=number - 1)
        for part in parts
    }
    tested = np.any([(part.split == "test").to_numpy() for part in parts], axis=0)
    split = pl.Series("split", ["test" if row else "" for row in tested])
    pooled = write_subrun(pipeline, folder, manifest, split, seed=number - 1)
    return Repetition(number, pooled, runs)


def runs_of(repetitions: Sequence[Repetition]) -> dict[str, Pipeline]:
    """Return the runs of all rotations by name, for `run_subruns`."""
    return {r.prefix + name: p for r in repetitions for name, p in r.runs.items()}


def pool(repetitions: Sequence[Repetition], by: str) -> CrossValidation:
    """Pool and score trained rotations."""
    scored: list[RepetitionScores] = []
    for repetition in reversed(repetitions):  # the first last, whose scores are the result
        pooled, heads = repetition.pooled, next(iter(repetition.runs.values())).systems
        folders = [p.run for p in repetition.runs.values()]
        pool_heads(folders, pooled.run, heads)
        pool_stacks(folders, pooled.run)
        whole = rotation_scores("all", pooled.run, heads)
        scored.insert(0, RepetitionScores(seed=repetition.number, scores=whole.scores))
        parts = [rotation_scores(n, p.run, heads) for n, p in repetition.runs.items()]
        record = Rotations(
            by=by,
            rotations=parts,
            repetitions=scored if repetition.number == 1 else [],
            baseline=pooled.baseline,
        )
        write_if_changed(pooled.run / FILE, record.to_json())
        manifest = read_manifest(pooled)
        metrics = score_run(pooled.run, pooled.score, heads, manifest, pooled.baseline)
    return CrossValidation(pooled, metrics, record)
