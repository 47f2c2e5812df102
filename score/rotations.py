"""The rotations of a corpus as one result: every utterance predicted where its speaker was tested.

    <folder>/heads/<head>/logits.h5   the test rows of that head in all rotations, as split test
    <folder>/rotations.json           the scores of each rotation, and of each repetition

The folder is a run that any command reads: its test split is the whole corpus. How the stacks are
pooled is in `ser.stack.rotations`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TypedDict

import numpy as np
import polars as pl
from pydantic import Field

from ser.cache.files import fingerprint
from ser.cache.logits import HeadLogits, SplitLogits
from ser.cache.record import Count, Label, Record
from ser.corpus.errors import UserError, plural
from ser.corpus.text_table import decimals, print_table, text_table
from ser.score.attributes import score_attributes
from ser.score.baseline import marked
from ser.score.heads import read_heads
from ser.score.labels import macro_f1, uar
from ser.score.run import of_systems
from ser.score.scores import MEAN
from ser.score.truth import PREDICTED, TRUTH, emotion_of, ground_truth, scored_attributes

if TYPE_CHECKING:
    from rich.console import Console

FILE = "rotations.json"
TEST = "test"
MOST_FOLDS = 127  # the number of a fold is kept as int8
TITLES = {"macro_f1": "macro-F1", "uar": "UAR", "ccc": "mean CCC"}
Scores = dict[Label, dict[Label, float]]  # of each system: macro_f1, uar, ccc


class RotationScores(Record):
    """The scores of one rotation on its test split."""

    name: Label
    utterances: Count
    speakers: Count
    scores: Scores


class RepetitionScores(Record):
    """The scores of one repetition of all rotations: those of its pooled predictions."""

    seed: Count  # 1 is the pipeline's own
    scores: Scores


class Rotations(Record):
    """rotations.json: the scores of each rotation and of each repetition with other seeds."""

    remedy: ClassVar[str] = "run `ser cv` again"

    by: Label
    baseline: Label | None = None  # the system that is the plain baseline
    rotations: Annotated[list[RotationScores], Field(min_length=1, max_length=100_000)]
    repetitions: Annotated[list[RepetitionScores], Field(max_length=1000)] = Field(
        default_factory=list
    )


def pool_heads(runs: Sequence[Path], folder: Path, heads: Sequence[str]) -> None:
    """Write the pooled `logits.h5` of every head, unless it is up to date."""
    for name in heads:
        parts = [HeadLogits.read(run / "heads" / name / "logits.h5") for run in runs]
        path = folder / "heads" / name / "logits.h5"
        pooled = pool(parts)
        if not _is_current(path, pooled.fingerprint):
            pooled.write(path)


def pool(parts: Sequence[HeadLogits]) -> HeadLogits:
    """Return the test rows of one head in all rotations as one file; `fold` is the rotation.

    Raises `UserError` for an utterance that two rotations test, and for other classes.
    """
    first = parts[0]
    if any(part.classes != first.classes for part in parts):
        raise UserError(f"head '{first.head}': its classes differ between rotations.")
    rows = [part.splits[TEST] for part in parts if TEST in part.splits]
    utterances = [u for part in rows for u in part.utterance]
    if len(set(utterances)) != len(utterances):
        raise UserError(f"head '{first.head}': two rotations test the same utterance.")
    fold = np.repeat(np.arange(len(rows)), [len(part.utterance) for part in rows])
    pooled = SplitLogits(
        utterance=utterances,
        logits=np.concatenate([part.logits for part in rows]),
        label=np.concatenate([part.label for part in rows]),
        speaker=[s for part in rows for s in part.speaker],
        fold=np.full(len(utterances), -1) if len(rows) > MOST_FOLDS else fold,
        rows="held-out",
        predicted=_joined([part.predicted for part in rows]),
        truth=_joined([part.truth for part in rows]),
        groups=[cells for part in rows for cells in part.groups or ()] if first.groups else None,
    )
    return HeadLogits(
        head=first.head,
        classes=first.classes,
        fingerprint=fingerprint({"pooled": [part.fingerprint for part in parts]}),
        features=first.features,
        splits={TEST: pooled},
        attributes=first.attributes,
        groups=first.groups,
        synthetic=first.synthetic,
    )


def _joined(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if present else None


def _is_current(path: Path, expected: str) -> bool:
    try:
        return HeadLogits.read_header(path).fingerprint == expected
    except UserError:  # absent or damaged
        return False


def rotation_scores(name: str, run: Path, heads: Sequence[str]) -> RotationScores:
    """Score every head and the stack of one rotation on its test split, without intervals."""
    rows = labelled_predictions(run, heads)
    first = next(iter(rows.values()))
    speakers = first["speaker"].fill_null("")
    return RotationScores(
        name=name,
        utterances=first.height,
        speakers=speakers.filter(speakers != "").n_unique(),
        scores={system: _scores(frame) for system, frame in rows.items()},
    )


def labelled_predictions(run: Path, heads: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Return the predictions of every system on test, with `label`, `emotion` and `speaker`."""
    logits = read_heads(run / "heads", heads)
    truth = ground_truth(logits, None, ())
    truth = truth.with_columns(emotion_of(next(iter(logits.values())).classes))
    return {
        name: frame.join(truth, "utterance", "left", maintain_order="left")
        for name, frame in of_systems(run, logits, [TEST]).items()
    }


def _scores(rows: pl.DataFrame) -> dict[str, float]:
    scores: dict[str, float] = {}
    labelled = rows.filter(pl.col("label") >= 0)
    if labelled.height and "prediction" in rows.columns:
        true, chosen = labelled["emotion"].to_numpy(), labelled["prediction"].to_numpy()
        scores |= {"macro_f1": macro_f1(true, chosen), "uar": uar(true, chosen)}
    if attributes := scored_attributes(rows):
        truth, predicted = (
            rows.select(side + name for name in attributes).to_numpy()
            for side in (TRUTH, PREDICTED)
        )
        mean = score_attributes(truth, predicted, attributes)[MEAN]
        if mean["n"]:
            scores["ccc"] = mean["ccc"]
    return scores


class Mean(TypedDict):
    """A mean score of `n` rotations or repetitions; `sd` (n - 1) is None of a single score."""

    mean: float
    sd: float | None
    n: int


def summary(rotations: Rotations) -> dict[str, dict[str, dict[str, Mean]]]:
    """Return the mean of every system and metric over the rotations, and over seeds if several."""
    kinds = {"rotations": [part.scores for part in rotations.rotations]}
    if len(rotations.repetitions) > 1:
        kinds["seeds"] = [part.scores for part in rotations.repetitions]
    entries: dict[str, dict[str, dict[str, Mean]]] = {}
    for kind, parts in kinds.items():
        for system in dict.fromkeys(name for scores in parts for name in scores):
            scored = [scores[system] for scores in parts if system in scores]
            for metric in TITLES:
                if values := [scores[metric] for scores in scored if metric in scores]:
                    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
                    mean = Mean(mean=float(np.mean(values)), sd=deviation, n=len(parts))
                    entries.setdefault(system, {}).setdefault(kind, {})[metric] = mean
    return entries


def print_rotations(rotations: Rotations, console: "Console") -> None:
    """Print mean ± sd over rotations, and over seeds where there are several."""
    header, rows = rotation_rows(rotations)
    table = text_table(header[:1], header[1:])
    for row in rows:
        table.add_row(*row)
    title = f"mean ± sd of {plural(len(rotations.rotations), 'rotation')} by {rotations.by}"
    if len(rotations.repetitions) > 1:
        title += f", and of {plural(len(rotations.repetitions), 'seed')} (pooled)"
    print_table(table, console, title=title)


def rotation_rows(rotations: Rotations) -> tuple[list[str], list[list[str]]]:
    """Return the header and a row for each system; "-" where a score is undefined."""
    scores = summary(rotations)
    metrics = [
        name for name in TITLES if any(name in entry["rotations"] for entry in scores.values())
    ]
    kinds = ["rotations", "seeds"] if len(rotations.repetitions) > 1 else ["rotations"]
    header = ["system"]
    header += [f"{TITLES[m]}, {kind}" for kind in kinds for m in metrics]
    means = {
        system: entry["rotations"][metrics[0]]["mean"] if metrics[0] in entry["rotations"] else None
        for system, entry in scores.items()
    }
    names = marked(means, rotations.baseline)
    rows = [
        [names[system], *(_cell(entry.get(kind, {}).get(m)) for kind in kinds for m in metrics)]
        for system, entry in scores.items()
    ]
    return header, rows


def _cell(value: Mean | None) -> str:
    if value is None:
        return "-"
    return f"{value['mean']:.3f} ± {decimals(value['sd'])}"
