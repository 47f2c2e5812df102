"""A local data set of Hugging Face: a folder of `save_to_disk`, or Parquet files.

Read by polars; neither `datasets` nor torchcodec is needed, and nothing is unpickled. Audio within
the files is written out as files of its own, under names of its own. Paths within a data
set are followed only as far as they stay within its folder.

Memory is bounded: a Parquet file is read some rows at a time. An Arrow stream is read as a whole,
as polars does, so its size is limited; `save_to_disk` writes files of at most 500 MB.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ser.corpus import parquet
from ser.corpus.cells import SPLIT_WORDS
from ser.corpus.columns import COLUMNS
from ser.corpus.errors import UserError, first_line, listed
from ser.corpus.importers.clips import Clips
from ser.corpus.importers.registry import importer
from ser.corpus.importers.table import manifest_of_table
from ser.corpus.manifest import Manifest
from ser.corpus.tables import Table

BATCH = 128 * 2**20  # bytes that are read at a time of a Parquet file
LARGEST_STREAM = 2 * 2**30  # bytes of an Arrow stream
LARGEST_JSON = 16 * 2**20  # bytes
ROW, PART, FILE = "row of the data set", "part of the data set", "audio file"
OPTIONS = tuple(n for n in COLUMNS if n not in ("path", "start", "end", "corpus", "fold"))
WORDS = (pl.Categorical, pl.Enum)  # types of columns that are text


@importer("hf", columns=OPTIONS)
def hf(
    folder: Path,
    *,
    audio: str = "audio",
    clips: str | Path = "",
    emotions: Mapping[str, str] | None = None,
    splits: Mapping[str, str] | None = None,
    **columns: str | None,
) -> Manifest:
    """Import a data set of Hugging Face.

    Files: a folder that `save_to_disk` of `datasets` has written (one split, or several), or
    Parquet files as the hub has them (`train-00000-of-00001.parquet`), in any subfolder.
    Options: `audio`: the column of the audio, by default audio: bytes, or paths within `folder`.
    `clips`: the folder that audio within the files is written to, as wav, flac, mp3 …, as it is.
    `emotions` and `splits` map the cells to classes and splits, as for `csv`. Every other option
    names the data set's column for the manifest's, as emotion=label; left out, the column of the
    same name. Class labels are read as their names. Ids are split and number (train-000012), unless
    `utterance` names a column.
    Split: that of the data set's parts, unless `split` names a column.

    Licence and citation are those of the data set.
    """
    writer = Clips(folder, Path(clips) if clips else None)
    given = {name: column for name, column in columns.items() if column}
    wanted = {name.lower() for name in (*COLUMNS, *given.values())}
    frames, counts = [], Counter[str]()
    for file in _files(folder):
        writer.allow(file.path.stat().st_size)
        for batch in read_batches(file.path):
            frames.append(_frame(batch, file, audio, writer, counts, wanted=wanted))
    writer.require_audio()
    frame = pl.concat(frames, how="diagonal_relaxed")
    has_parts = bool((frame[PART] != "").any())
    frame = frame if has_parts else frame.drop(PART)
    named = {"utterance": ROW, "path": FILE, "split": PART if has_parts else None}
    named |= dict.fromkeys(OPTIONS[2:]) | given
    read = Table(frame, notes=tuple(writer.notes()))
    manifest = manifest_of_table(
        read, named, writer.root, str(folder), emotions=emotions, splits=splits
    )
    manifest.audio = writer.root
    return manifest


def read_batches(path: Path) -> Iterator[pl.DataFrame]:
    """Yield the rows of a `.parquet`, or of a stream in an `.arrow`, in order.

    There is a frame also where there are no rows. Raises `UserError` for a damaged file, and for a
    stream that is too large.
    """
    size, arrow = path.stat().st_size, path.suffix == ".arrow"
    if arrow and size > LARGEST_STREAM:
        raise UserError(
            f"{path}: it has {size:,} bytes, and the limit is {LARGEST_STREAM:,}; save the data "
            "set again, in smaller files (max_shard_size)."
        )
    try:
        if arrow:
            yield pl.read_ipc_stream(path)
        else:
            yield from _parquet_batches(path, size)
    except parquet.ERRORS as error:
        reason = first_line(error)
        raise UserError(f"{path}: not readable ({reason}); fetch or save it again.") from error


def _parquet_batches(path: Path, size: int) -> Iterator[pl.DataFrame]:
    scan = pl.scan_parquet(path, glob=False)
    rows = int(scan.select(pl.len()).collect().item())
    count = max(1, rows * BATCH // max(size, 1))
    for start in range(0, max(rows, 1), count):
        yield scan.slice(start, count).collect()


@dataclass(frozen=True)
class DataFile:
    """A file of a data set: its split, or "", and the names of its class labels, by column."""

    path: Path
    part: str
    labels: Mapping[str, list[str]]


def _files(folder: Path) -> list[DataFile]:
    """Find the files of a data set, with their splits, in order."""
    files = []
    for path in sorted(folder.rglob("*.arrow")):
        state = _json(path.with_name("state.json"))
        if state.get("_indices_files") or state.get("_indices_data_files"):
            raise UserError(
                f"{path.parent}: it is a selection of rows of another data set; save it again "
                "after `flatten_indices()`."
            )
        features = _json(path.with_name("dataset_info.json")).get("features")
        files.append(DataFile(path, _part(path, folder), _class_names(features)))
    for path in sorted(folder.rglob("*.parquet")):
        files.append(DataFile(path, _part(path, folder), _class_names(_parquet_features(path))))
    if not files:
        raise UserError(
            f"{folder}: there is no .arrow and no .parquet file in it; give a folder that "
            "`save_to_disk` has written, or the Parquet files of a data set."
        )
    return files


def _part(path: Path, folder: Path) -> str:
    """Return the split that a file's name, or a folder's, begins with; "" for another name."""
    names = (path.stem, *reversed(path.relative_to(folder).parts[:-1]))
    splits = (SPLIT_WORDS.get(re.split(r"[-_.]", name.lower())[0]) for name in names)
    return next(filter(None, splits), "")


def _json(path: Path) -> dict[str, object]:
    """Read a JSON file of a data set; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError("it is too large")
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable ({error}); save the data set again.") from error
    return value if isinstance(value, dict) else {}


def _parquet_features(path: Path) -> object:
    try:
        text = pl.read_parquet_metadata(path).get("huggingface") or "{}"
        return json.loads(text).get("info", {}).get("features")
    except (*parquet.ERRORS, ValueError, AttributeError, RecursionError):
        return None  # a damaged file is reported when it is read


def _class_names(features: object) -> dict[str, list[str]]:
    """Return the names of the class labels, by column."""
    entries = features.items() if isinstance(features, dict) else ()
    return {
        name: [str(n) for n in entry["names"]]
        for name, entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("names"), list)
    }


def _frame(
    frame: pl.DataFrame,
    file: DataFile,
    audio: str,
    clips: Clips,
    counts: Counter[str],
    *,
    wanted: Collection[str],
) -> pl.DataFrame:
    """Return the columns of some rows, and for every row its id, split and audio file.

    `counts` has the rows of every split so far; of nested columns only those `wanted` are kept.
    """
    if audio not in frame.columns:
        raise UserError(
            f"{file.path}: there is no column '{audio}' for the audio; name it with "
            "`--option audio=COLUMN`; "
            f"the columns are: {listed(frame.columns)}."
        )
    first, prefix = counts[file.part], file.part or "row"
    counts[file.part] += len(frame)
    names = [f"{prefix}-{first + i:06d}" for i in range(len(frame))]
    places = [
        clips.place(name, *_audio(value, file.path))
        for name, value in zip(names, frame[audio], strict=True)
    ]
    columns = {
        c.name: c
        for c in frame.drop(audio)
        if c.name.lower() in wanted or not (c.dtype.is_nested() or c.dtype == pl.Binary)
    }
    columns |= {n: _labels(columns[n], names) for n, names in file.labels.items() if n in columns}
    columns |= {
        ROW: pl.Series(names, dtype=pl.String),
        FILE: pl.Series(places, dtype=pl.String),
        PART: pl.Series([file.part] * len(names), dtype=pl.String),
    }
    columns = {n: c.cast(pl.String) if c.dtype in WORDS else c for n, c in columns.items()}
    return pl.DataFrame([c.alias(n) for n, c in columns.items()]).filter(pl.col(FILE).is_not_null())


def _audio(value: object, path: Path) -> tuple[bytes | None, str | None]:
    """Return the bytes and the path of a cell: one of them, or both in a mapping, or neither."""
    kind = "bytes" if isinstance(value, bytes) else "path"
    cell = value if isinstance(value, dict) else {kind: value}
    if not {"bytes", "path"} & set(cell):
        raise UserError(
            f"{path}: a cell of the audio has the fields {listed(cell)}, neither bytes nor path; "
            "save the data set with encoded audio, or name its column with `--option audio=COLUMN`."
        )
    data, name = cell.get("bytes"), cell.get("path")
    if (data is None or isinstance(data, bytes)) and (name is None or isinstance(name, str)):
        return data, name
    raise UserError(
        f"{path}: a cell of the audio is of type {type(value).__name__}, neither bytes nor a path; "
        "name the column of the encoded audio with `--option audio=COLUMN`."
    )


def _labels(column: pl.Series, names: list[str]) -> pl.Series:
    """Return the numbers of a class label as its names; one without a name is null."""
    if not column.dtype.is_integer():
        return column
    numbers = list(range(len(names)))
    return column.replace_strict(numbers, names, default=None, return_dtype=pl.String)
