"""Predictions for many files in one CSV; the same call resumes an interrupted one.

    out.csv          a row for each file, or with `timeline` for each segment
    out.failed.csv   path and error of every file that could not be used in the last call

A file is done when its rows are complete: a truncated line is dropped, and of a timeline the last
file, which may lack segments. Failed files are tried again.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

from ser.corpus.atomic import write_durably
from ser.corpus.decoding.suffixes import SUFFIXES
from ser.corpus.errors import UserError, listed, plural
from ser.corpus.progress import steps
from ser.predict.audio_predictor import AudioPredictor, StreamOptions
from ser.predict.formats import csv_rows, header, to_csv
from ser.predict.result import Failure

NAMED = 10  # files that a note names


@dataclass(frozen=True)
class Search:
    """The result of a search: files to predict, and other files in the folders (not hidden ones).

    `unusable` are broken links, pipes and the like with a suffix of audio. `SUFFIXES` of
    `ser.corpus.audio` are those that the decoders read.
    """

    files: list[Path]
    passed_over: list[Path]
    unusable: list[Path] = field(default_factory=list)

    @property
    def note(self) -> str:
        """Return a sentence about the files that were skipped, "" where there were none."""
        broken = [path for path in self.unusable if not path.exists()]
        special = [path for path in self.unusable if path.exists()]
        kinds = (
            (self.passed_over, "file", "not audio by suffix"),
            (broken, "link", "broken"),
            (special, "name", "not of a regular file"),
        )
        return "; ".join(_note(*kind) for kind in kinds if kind[0])


def _note(paths: list[Path], noun: str, what: str) -> str:
    are = "that is" if len(paths) == 1 else "that are"
    names = listed([path.name for path in paths], NAMED)
    return f"skipped {plural(len(paths), noun)} {are} {what}: {names}"


def search(places: Iterable[Path]) -> Search:
    """Find the given files, and the audio files in and below the given folders, sorted.

    Hidden files and folders within a folder (`._clip.wav` of macOS, `.git/`) are left out.
    """
    files: list[Path] = []
    others: list[Path] = []
    unusable: list[Path] = []
    for place in places:
        if not place.is_dir():
            files.append(place)
            continue
        for path in sorted(place.rglob("*")):
            if any(part.startswith(".") for part in path.relative_to(place).parts):
                continue
            if path.suffix.lower() in SUFFIXES and path.is_file():
                files.append(path)
            elif not path.is_dir():
                (others if path.is_file() else unusable).append(path)
    found = (list(dict.fromkeys(paths)) for paths in (files, others, unusable))
    return Search(*found)


def predict_files(
    predictor: AudioPredictor, files: Sequence[Path], out: Path, **options: Unpack[StreamOptions]
) -> list[Failure]:
    """Append the rows of all files that `out` lacks; return the failures.

    Models are loaded only where a file is left. The options are those of `Predictor.stream`; where
    with `one_speaker` each result depends on all files and any is missing, all are predicted again.
    Raises `UserError` for an `out` of other columns.
    """
    turns = options.get("turns") is not None
    segments = bool(options.get("timeline")) or turns
    unsure = predictor.min_confidence is not None
    columns = header(predictor.classes, predictor.attributes, segments, unsure, turns)
    done = _resume(out, columns, whole_rows=not segments)
    todo = [path for path in files if printable(str(path)) not in done]
    if todo:
        predictor.load()
    if todo and done and options.get("one_speaker") and predictor.by_speaker:
        todo, done = list(files), set()
        out.unlink()
    failed = []
    with out.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
        if not file.tell():
            file.write(to_csv([columns]))
        label = f"predict ({len(done)} already done)" if done else "predict"
        results = predictor.stream(todo, **options) if todo else ()
        for result in steps(results, label, len(todo), unit="file"):
            if isinstance(result, Failure):
                failed.append(result)
            else:
                file.write(csv_rows(result, segments, turns))
                file.flush()
    _list_failures(out.with_name(f"{out.stem}.failed.csv"), failed)
    return failed


def contents(out: Path) -> str:
    """Return how many files a CSV of `predict_files` has, and how many predictions are unsure."""
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    unsure = sum(row.get("unsure") == "true" for row in rows)
    share = f", {unsure} of {plural(len(rows), 'prediction')} unsure" if unsure else ""
    return f"{plural(len({row['path'] for row in rows}), 'file')}{share}"


def printable(text: str) -> str:
    """Return valid UTF-8; the name of a file need not be, and is written with escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _resume(out: Path, columns: Sequence[str], whole_rows: bool) -> set[str]:
    """Truncate a file to its complete rows; return their paths."""
    if not out.exists() or not out.stat().st_size:
        return set()
    data = out.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
    if rows and rows[0] != list(columns):
        raise UserError(
            f"{out}: its columns differ from those of this run ({', '.join(columns)}); give "
            "another file with `--out`, or delete it."
        )
    rows = [row for row in rows if len(row) == len(columns)]
    if not whole_rows and len(rows) > 1:
        rows = [row for row in rows if row[0] != rows[-1][0]]
    write_durably(out, to_csv(rows))
    return {row[0] for row in rows[1:]}


def _list_failures(path: Path, failed: Sequence[Failure]) -> None:
    if not failed:
        path.unlink(missing_ok=True)
        return
    rows = [["path", "error"], *([failure.path, failure.error] for failure in failed)]
    write_durably(path, printable(to_csv(rows)))
