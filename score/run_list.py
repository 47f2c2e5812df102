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
from collections.abc import Callable, Collection, Iterator, Sequence
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
from ser.score.scores import Metrics, SystemScores, read_metrics

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
    files = _Files(root, place)
    pipeline = files.read(PIPELINE, _read_pipeline) or _Pipeline()
    trained = [head.name for head in _entries(place / "heads") if _is_trained(head)]
    records = [files.read(f"heads/{head}/head.json", HeadSummary.read) for head in trained]
    stack = files.read("stack/stack.json", StackSummary.read)
    metrics = files.read(f"report/{METRICS}", read_metrics) or {}
    seconds = [r.seconds for r in records if r is not None and r.seconds is not None]
    shares = [r.synthetic for r in records if r is not None and r.synthetic is not None]
    summary = RunSummary(
        name,
        corpus=pipeline.corpus,
        features=pipeline.features,
        heads=pipeline.heads or tuple(trained),
        stack=None if stack is None else stack.config.model,
        minutes=sum(seconds) / 60 if seconds else None,
        when=_when(place, trained),
        synthetic=max(shares, default=None),
    )
    summary = _with_scores(summary, metrics)
    lacks = _lacks(summary, pipeline.heads, trained)
    predictions = "report/predictions.csv"
    if lacks is None and files.read(predictions, lambda _: scores_are_current(place)) is False:
        lacks = "the scores are of an earlier stack"
    state: State = "damaged" if files.problem else "incomplete" if lacks else "complete"
    return replace(summary, state=state, reason=files.problem or lacks)


@dataclass
class _Files:
    """The files of a run; `problem` is the first that could not be read, and why."""

    root: Path
    place: Path
    problem: str = ""

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


@dataclass(frozen=True)
class _Pipeline:
    """The names in a pipeline.yaml; `heads` has fine-tuned models too, and is None without one."""

    corpus: str | None = None
    features: tuple[str, ...] = ()
    heads: tuple[str, ...] | None = None


def _read_pipeline(path: Path) -> _Pipeline:
    """Read a pipeline.yaml as plain text: nothing is imported."""
    with path.open("rb") as file:
        values = parse_yaml(str(path), file.read(LARGEST + 1)).value
    if not isinstance(values, dict):
        raise UserError("it is not a mapping")
    sections = {key: value for key, value in values.items() if isinstance(value, dict)}
    manifest = sections.get("corpus", {}).get("manifest")
    # a head that is true or false is the switch of the baseline
    heads = [n for n, entry in sections.get("heads", {}).items() if not isinstance(entry, bool)]
    heads += sections.get("finetune", {})
    return _Pipeline(
        corpus=corpus_name(Path(str(manifest))) if manifest else None,
        features=tuple(sections.get("features", {})),
        heads=tuple(name for name in heads if name != "defaults"),
    )


def _when(place: Path, trained: Sequence[str]) -> str | None:
    """Return the time (UTC) of the newest result, or of the pipeline without one."""
    results = [f"heads/{name}/{file}" for name in trained for file in HEAD_FILES]
    results += ["stack/stack.json", f"report/{METRICS}"]
    for files in (results, [PIPELINE]):
        times = [os.lstat(place / f).st_mtime for f in files if (place / f).is_file()]
        if times:
            return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return None


def _with_scores(summary: RunSummary, metrics: Metrics) -> RunSummary:
    """Add the scores of the head that is best on dev and of the stack."""
    split = next((name for name in reversed(SCORED) if name in metrics), None)
    if split is None:
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


def _lacks(
    summary: RunSummary, expected: Sequence[str] | None, trained: Sequence[str]
) -> str | None:
    """Return what a run has not reached; None for one that has all its stages."""
    if expected is None:
        return f"there is no {PIPELINE}"
    if missing := set(expected) - set(trained):
        return f"{len(expected) - len(missing)} of {plural(len(expected), 'head')} trained"
    if summary.stack is None:
        return "there is no stack"
    return "not scored" if summary.split is None else None
