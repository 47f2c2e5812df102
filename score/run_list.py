"""The runs below a folder, one row each, read from what they recorded.

    <run>/pipeline.yaml                  corpus, features, and the heads that there should be
    <run>/heads/<head>/head.json         minutes of training, synthetic speech
    <run>/stack/stack.json               the stack's model
    <run>/report/metrics.json            the scores

Nothing is changed, no module that a pipeline names is imported, and no link that leads out of the
folder is followed. A run that is damaged or incomplete has a row with the reason. The search is
bounded: `DEEPEST` levels and `MOST` folders.
"""

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from polars.exceptions import PolarsError

from ser.corpus.bounded_yaml import LARGEST, parse_yaml, shorten
from ser.corpus.errors import DamagedError, UserError, plural
from ser.corpus.manifest import corpus_name
from ser.score.record import HeadSummary, StackSummary, scores_are_current
from ser.score.rotations import FILE as ROTATIONS
from ser.score.run import SCORED, STACK
from ser.score.scores import SystemScores, read_metrics

PIPELINE, METRICS = "pipeline.yaml", "metrics.json"
PARTS = ("heads", "stack", "report", "finetuned")  # folders of a run, in which no run is searched
DEEPEST = 5  # levels below the folder
MOST = 20_000  # folders that are searched, and heads of a run that are read
State = Literal["complete", "incomplete", "damaged"]
LONGEST = 200  # characters of a reason
HEAD_FILES = ("head.json", "logits.h5")

T = TypeVar("T")


@dataclass(frozen=True)
class RunSummary:
    """A run: what it is made of, how well it scores, and whether it is complete.

    Scores are those on `split`: test, or dev where test has no labels. The head is the one that is
    best on dev, and the baseline the linear probe that heads are compared with. `minutes` are those
    of training, summed over the heads; `when` is the time of the newest result (ISO 8601, UTC);
    `synthetic` is the share of synthetic speech in the training clips. `reason` is why a run is not
    complete. What is not known is None.
    """

    run: str
    state: State = "complete"
    reason: str | None = None
    corpus: str | None = None
    features: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    split: str | None = None
    baseline_macro_f1: float | None = None
    best_head: str | None = None
    head_macro_f1: float | None = None
    head_ccc: float | None = None
    stack: str | None = None
    stack_macro_f1: float | None = None
    stack_ccc: float | None = None
    minutes: float | None = None
    when: str | None = None
    synthetic: float | None = None


@dataclass(frozen=True)
class RunList:
    """The runs below a folder, by name; `whole` is False where the search reached its bound."""

    runs: list[RunSummary] = field(default_factory=list)
    whole: bool = True


def list_runs(folder: Path) -> RunList:
    """List the runs in and below a folder; raises `UserError` where there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give the one that your runs are in.")
    root = folder.resolve()
    places = list(islice(_folders(root), MOST + 1))
    runs = [
        _summarize(root, place)
        for place in places[:MOST]
        if place.is_symlink() or _is_run(place, top=place == root)
    ]
    return RunList(sorted(runs, key=lambda run: run.run), whole=len(places) <= MOST)


def _folders(root: Path) -> Iterator[Path]:
    """Yield a folder, those below it that are no part of a run, and links that lead out of it.

    The rotations of a cross-validation are part of it: their pooled predictions are one run.
    """
    level = [root]
    for _ in range(DEEPEST + 1):
        yield from level
        level = [
            inner
            for place in level
            if not place.is_symlink() and not (place / ROTATIONS).is_file()
            for inner in _entries(place, PARTS if _is_run(place, top=False) else ())
            if not inner.is_symlink() or _leads_out(root, inner)
        ]


def _entries(place: Path, without: Collection[str] = ()) -> list[Path]:
    """Return the folders in a folder, but hidden ones and those named."""
    try:
        with os.scandir(place) as entries:
            shown = (e for e in entries if not e.name.startswith(".") and e.name not in without)
            names = list(islice((e.name for e in shown if e.is_dir()), MOST + 1))
    except OSError:  # it cannot be read, or is not there
        return []
    return [place / name for name in sorted(names)]


def _leads_out(root: Path, path: Path) -> bool:
    return not path.resolve().is_relative_to(root)


def _is_run(place: Path, top: bool) -> bool:
    """Return whether a folder is that of a run; a pipeline in the `top` one is no run yet."""
    marks = [place / "report" / METRICS, place / "stack" / "stack.json"]
    marks += [] if top else [place / PIPELINE]
    return any(mark.is_file() for mark in marks) or any(map(_is_trained, _entries(place / "heads")))


def _is_trained(head: Path) -> bool:
    return (head / "head.json").is_file() or (head / "logits.h5").is_file()


def _summarize(root: Path, place: Path) -> RunSummary:
    name = place.relative_to(root).as_posix()
    if place.is_symlink():
        return RunSummary(name, "damaged", "it is a link that leads out of the folder")
    run = _Run(root, place)
    summary = RunSummary(name)
    for read in (_with_pipeline, _with_heads, _with_stack, _with_scores):
        summary = read(summary, run)
    lacks = _lacks(summary, run)
    state: State = "damaged" if run.problem else "incomplete" if lacks else "complete"
    return replace(summary, state=state, reason=run.problem or lacks, when=run.when())


class _Run:
    """The files of a run; `problem` is the first that could not be read, and why."""

    def __init__(self, root: Path, place: Path) -> None:
        self.root, self.place = root, place
        self.problem = ""
        self.expected: list[str] | None = None  # heads that the pipeline has
        self.trained: list[str] = []

    def read(self, name: str, reader: Callable[[Path], T]) -> T | None:
        """Read a file of the run; None, with a `problem`, where it is not there or is damaged."""
        path = self.place / name
        if not os.path.lexists(path):
            return None
        try:
            if _leads_out(self.root, path):
                raise UserError("it is a link that leads out of the folder")
            if not path.is_file():
                raise UserError("it is not a file")
            return reader(path)
        except DamagedError as error:
            problem = error.problem
        except (UserError, OSError, PolarsError) as error:
            problem = str(getattr(error, "strerror", None) or error)
        problem = problem.removeprefix(str(path)).rstrip(".")
        colon = "" if problem.startswith(":") else ": "
        self.problem = self.problem or shorten(f"{name}{colon}{problem}", LONGEST)
        return None

    def when(self) -> str | None:
        """Return the time (UTC) of the newest result, or of the pipeline without one."""
        results = [f"heads/{name}/{file}" for name in self.trained for file in HEAD_FILES]
        results += ["stack/stack.json", f"report/{METRICS}"]
        for files in (results, [PIPELINE]):
            times = [os.lstat(self.place / f).st_mtime for f in files if (self.place / f).is_file()]
            if times:
                return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return None


def _with_pipeline(summary: RunSummary, run: _Run) -> RunSummary:
    """Add the corpus and the features; they are read as plain text, and nothing is imported."""
    values = run.read(PIPELINE, _read_mapping)
    if values is None:
        return summary
    corpus = values.get("corpus")
    manifest = corpus.get("manifest") if isinstance(corpus, dict) else None
    sections = {
        key: list(section) if isinstance(section := values.get(key), dict) else []
        for key in ("features", "heads", "finetune")
    }
    entries = values.get("heads")
    entries = entries if isinstance(entries, dict) else {}
    switches = {name for name, entry in entries.items() if isinstance(entry, bool)}
    heads = [name for name in sections["heads"] if name not in {"defaults", *switches}]
    run.expected = [*heads, *sections["finetune"]]
    return replace(
        summary,
        corpus=corpus_name(Path(str(manifest))) if manifest else None,
        features=tuple(sections["features"]),
        heads=tuple(run.expected),
    )


def _read_mapping(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        values = parse_yaml(str(path), file.read(LARGEST + 1)).value
    if not isinstance(values, dict):
        raise UserError("it is not a mapping")
    return values


def _with_heads(summary: RunSummary, run: _Run) -> RunSummary:
    """Add the heads, their minutes of training, and the share of synthetic speech."""
    run.trained = [head.name for head in _entries(run.place / "heads") if _is_trained(head)]
    records = [run.read(f"heads/{name}/head.json", HeadSummary.read) for name in run.trained]
    seconds = [r.seconds for r in records if r is not None and r.seconds is not None]
    shares = [r.synthetic for r in records if r is not None and r.synthetic is not None]
    return replace(
        summary,
        heads=summary.heads or tuple(run.trained),
        minutes=sum(seconds) / 60 if seconds else None,
        synthetic=max(shares, default=None),
    )


def _with_stack(summary: RunSummary, run: _Run) -> RunSummary:
    record = run.read("stack/stack.json", StackSummary.read)
    return summary if record is None else replace(summary, stack=record.config.model)


def _with_scores(summary: RunSummary, run: _Run) -> RunSummary:
    """Add the scores of the head that is best on dev and of the stack."""
    metrics = run.read(f"report/{METRICS}", read_metrics)
    split = next((name for name in reversed(SCORED) if metrics and name in metrics), None)
    if metrics is None or split is None:
        return summary
    scored = metrics[split]
    heads = {n: s for n, s in metrics.get("dev", scored).items() if n != STACK and n in scored}
    heads = {n: s for n, s in heads.items() if not scored[n].baseline} or heads
    best = max(heads, key=lambda name: _rank(heads[name]), default=None)
    head, stack = scored.get(best or "", SystemScores()), scored.get(STACK, SystemScores())
    return replace(
        summary,
        split=split,
        baseline_macro_f1=next((s.score("macro_f1") for s in scored.values() if s.baseline), None),
        best_head=best,
        head_macro_f1=head.score("macro_f1"),
        head_ccc=head.score("ccc"),
        stack_macro_f1=stack.score("macro_f1"),
        stack_ccc=stack.score("ccc"),
    )


def _rank(scores: SystemScores) -> tuple[float, float]:
    """Order heads by macro-F1, those of attributes alone by mean CCC."""
    f1, rated = scores.score("macro_f1"), scores.score("ccc")
    return -2.0 if f1 is None else f1, -2.0 if rated is None else rated


def _lacks(summary: RunSummary, run: _Run) -> str | None:
    """Return what a run has not reached; None for one that is complete."""
    if run.expected is None:
        return f"there is no {PIPELINE}"
    missing = set(run.expected) - set(run.trained)
    if missing:
        done = len(run.expected) - len(missing)
        return f"{done} of {plural(len(run.expected), 'head')} trained"
    if summary.stack is None:
        return "there is no stack"
    if summary.split is None:
        return "not scored"
    if run.read("report/predictions.csv", _scores_are_old):
        return "the scores are of an earlier stack"
    return None


def _scores_are_old(predictions: Path) -> bool:
    return not scores_are_current(predictions.parent.parent)
