"""Many files into one CSV: what is written stays, and the same call goes on behind it.

    out.csv          a row a file, or with `timeline` a row a segment
    out.failed.csv   path and error of every file that could not be used in the last call

A file counts as done when its rows are whole: a line that was cut short is dropped, and of a
timeline the last file, whose further segments may be lacking. Files that failed are tried again.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cache.files import write_durably
from corpus.audio import SUFFIXES
from corpus.errors import UserError
from ser.predict.formats import csv_rows, header, to_csv
from ser.predict.predictor import Predictor
from ser.predict.result import Failure


def audio_files(places: Iterable[Path]) -> list[Path]:
    """Return files as they are named, and the audio files in and below folders, sorted."""
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = (p for p in sorted(place.rglob("*")) if p.suffix.lower() in SUFFIXES)
            found += [path for path in inside if path.is_file()]
        else:
            found.append(place)
    return list(dict.fromkeys(found))


def predict_files(
    predictor: Predictor, files: Sequence[Path], out: Path, **options: Any
) -> list[Failure]:
    """Write the rows of all files that `out` does not hold yet; return what failed.

    The options are those of `Predictor.each`. Raises `UserError` for an `out` of other columns.
    """
    segments = bool(options.get("timeline"))
    columns = header(predictor.classes, predictor.attributes, segments)
    done = _resume(out, columns, whole_rows=not segments)
    todo = [path for path in files if str(path) not in done]
    failed = []
    with out.open("a", encoding="utf-8", newline="") as file:
        if not file.tell():
            file.write(to_csv([columns]))
        for result in _with_progress(predictor.each(todo, **options), len(todo), len(done)):
            if isinstance(result, Failure):
                failed.append(result)
            else:
                file.write(csv_rows(result, segments))
                file.flush()
    _list_failures(out.with_name(f"{out.stem}.failed.csv"), failed)
    return failed


def _with_progress(results: Iterator[Any], total: int, done: int) -> Iterator[Any]:
    label = f"predict ({done} were done)" if done else "predict"
    yield from tqdm(results, label, total, unit="file", disable=None)


def _resume(out: Path, columns: Sequence[str], whole_rows: bool) -> set[str]:
    """Cut a file back to rows that are whole; return the paths that they are of."""
    if not out.exists() or not out.stat().st_size:
        return set()
    data = out.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
    if rows and rows[0] != list(columns):
        raise UserError(
            f"{out}: its columns are not those of this run ({', '.join(columns)}); give another "
            "file with `--out`, or delete it."
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
    rows = [["path", "error"], *([each.path, each.error] for each in failed)]
    write_durably(path, to_csv(rows))
