"""One Zarr array with the frames of all utterances, and the arrays that say whose they are."""

import math
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ser.cache.arrays import Array
from ser.cache.files import hash64
from ser.cache.precision import Encoded
from ser.cache.shard import checksum
from ser.cache.zarr_nodes import Node
from ser.cache.zarr_store import ZarrError, open_array, read
from ser.corpus.errors import Note, UserError, plural

if TYPE_CHECKING:
    from zarr.abc.store import Store

    from ser.cache.zarr_store import ZarrArray

FORMAT = "ser-features-zarr/1"
LONGEST_ID = 1_000  # characters
MOST_ROWS = 1 << 40
CACHED = 1 << 28  # bytes of decoded chunks that are kept for the next utterance


def stat_hash_of(*nodes: Node) -> int:
    """Return a hash of the sizes and times of the files of nodes."""
    return hash64(repr([node.stats for node in nodes]).encode())


def open_node(store: "Store", path: str, node: Node) -> "ZarrArray":
    """Open the array of a node; raises `ZarrError` for one that cannot be used."""
    if node.problem:
        raise ZarrError(node.problem)
    return open_array(store, path, node.metadata)


class Ragged:
    """One array with the frames of all utterances, and the arrays that say whose they are.

    `paths` are those of "frames", "ids", "lengths" and "offsets" in the store.
    """

    def __init__(
        self, source: Path, store: "Store", paths: Mapping[str, str], nodes: Mapping[str, Node]
    ) -> None:
        self.source, self.store, self.paths, self.nodes = source, store, paths, nodes
        self.frames = self._open(paths["frames"])
        shape, dtype = self.frames.shape, self.frames.dtype
        if len(shape) not in (2, 3) or dtype.kind not in "fiu":
            problem = f"its shape is {shape} and its type {dtype}, not (rows, dim) of numbers"
            raise self._error(paths["frames"], problem)
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._range, self._block = (0, 0), np.empty(0)

    def _error(self, path: str, problem: str) -> UserError:
        return UserError(f"{self.source / path}: {problem}; write the store again.")

    def _open(self, path: str) -> "ZarrArray":
        try:
            return open_node(self.store, path, self.nodes[path])
        except ZarrError as error:
            raise self._error(path, f"not readable ({error})") from error

    def _read(self, path: str) -> np.ndarray:
        try:
            return read(self._open(path))
        except ZarrError as error:
            raise self._error(path, f"not readable ({error})") from error

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by utterance, in the order of their rows."""
        ids = self._ids()
        lengths, offsets = (self._integers(self.paths.get(r)) for r in ("lengths", "offsets"))
        self._require_rows(len(ids), lengths, offsets)
        starts, stops = self._ranges(len(ids), lengths, offsets)
        stored = (starts >= 0) & (stops > starts) & (stops <= self.frames.shape[0])
        if int((stops - starts)[stored].sum()) > self.frames.shape[0]:
            raise self._error(self.paths["frames"], "the rows of its utterances overlap")
        self._warn_of_gaps(starts[stored], stops[stored])
        hashes = self._hashes(len(ids))
        stat_hash = stat_hash_of(*(self.nodes[path] for path in self.paths.values()))
        file, arrays = self.source / self.paths["frames"], dict[str, Array]()
        for i in np.argsort(starts, kind="stable").tolist():
            utterance, problem = ids[i], ""
            start, stop = int(starts[i]), int(stops[i])
            if not utterance or len(utterance) > LONGEST_ID or utterance.endswith("\0"):
                problem = f"the id is not a text of 1 to {LONGEST_ID:,} characters"
            elif utterance in arrays:
                problem = f"the id '{utterance}' appears twice"
            if problem or not utterance:
                utterance = f"{self.paths['ids']}[{i}]"
            elif not stored[i]:
                problem = f"there are no rows {start} to {stop}"
            stated, content, crc = hashes[i] if hashes else (stat_hash, None, None)
            load = partial(self._load, start, stop, crc, problem)
            arrays[utterance] = Array(file, stated, load, content)
        return arrays

    def _require_rows(
        self, count: int, lengths: np.ndarray | None, offsets: np.ndarray | None
    ) -> None:
        """Raise `UserError` for padded frames (utterances, frames, dim), and without lengths."""
        shape, file = self.frames.shape, self.source / self.paths["frames"]
        if offsets is not None or (lengths is not None and int(lengths.sum()) == shape[0]):
            return
        if len(shape) == 3 and shape[0] == count:
            raise UserError(
                f"{file}: its shape {shape} is padded, a block for each of "
                f"{plural(count, 'utterance')}; write an array for each utterance, or the rows of "
                "all of them without the padding, with their `lengths`."
            )
        if lengths is None and shape[0] != count:
            raise UserError(
                f"{file}: it has {plural(shape[0], 'row')} for {plural(count, 'id')}, without "
                "their lengths; add `lengths`, the number of frames of each utterance."
            )

    def _warn_of_gaps(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """Warn of rows that no utterance has, as offsets may leave gaps."""
        rows = int(self.frames.shape[0])
        order = np.argsort(starts, kind="stable")
        ends = np.maximum.accumulate(np.append(0, stops[order]))
        gaps = int(np.maximum(np.append(starts[order], rows) - ends, 0).sum())
        if gaps:
            file = self.source / self.paths["frames"]
            text = f"{file}: {plural(gaps, 'row')} of {rows:,} left out, as no utterance has them."
            warnings.warn(text, Note, stacklevel=2)

    def _load(self, start: int, stop: int, crc: int | None, problem: str) -> np.ndarray:
        if problem:
            raise ZarrError(problem)
        frames = self._rows(start, stop)
        if crc is not None and checksum(Encoded(frames)) != crc:
            raise ZarrError("the crc32c of the frames differs")
        return frames

    def _rows(self, start: int, stop: int) -> np.ndarray:
        """Read rows by whole chunks, which are kept for the next utterance."""
        chunk = self.frames.chunks[0]
        first, last = start // chunk * chunk, min(-(-stop // chunk) * chunk, self.frames.shape[0])
        if (last - first) * self._row_bytes > CACHED:
            return read(self.frames, start, stop)
        if self._range != (first, last):
            self._range, self._block = (0, 0), read(self.frames, first, last)
            self._range = (first, last)
        return self._block[start - first : stop - first]

    def _ids(self) -> list[str | None]:
        values = self._read(self.paths["ids"])
        if values.ndim == 2 and values.dtype == np.uint8:  # UTF-8, padded with zero bytes
            return [_decoded(bytes(row).rstrip(b"\0")) for row in values]
        if values.ndim == 1 and values.dtype.kind in "iu":
            return [str(number) for number in values.tolist()]
        if values.ndim != 1 or values.dtype.kind not in "TUSO":
            raise self._error(
                self.paths["ids"], f"its type is {values.dtype}, neither text nor integers"
            )
        return [_decoded(value) for value in values.tolist()]

    def _ranges(
        self, count: int, lengths: np.ndarray | None, offsets: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the first row of each utterance, and the one behind its last."""
        if offsets is None:
            lengths = np.ones(count, np.int64) if lengths is None else lengths
            stops = np.cumsum(lengths)
            starts = stops - lengths
        elif lengths is not None:
            starts = offsets[:count]  # there may be one more: the end of the last
            stops = starts + lengths if len(starts) == len(lengths) else lengths
        else:
            if len(offsets) == count:
                offsets = np.append(offsets, self.frames.shape[0])
            starts, stops = offsets[:-1], offsets[1:]
        if not len(starts) == len(stops) == count:
            problem = f"it has {count} ids, and there are {len(stops)} lengths or offsets"
            raise self._error(self.paths["ids"], problem)
        rows = int(self.frames.shape[0])
        if offsets is None and lengths is not None and (total := int(lengths.sum())) != rows:
            problem = f"they add up to {plural(total, 'row')}, and the frames have {rows:,}"
            raise self._error(self.paths["lengths"], problem)
        return starts, stops

    def _integers(self, path: str | None) -> np.ndarray | None:
        if path is None:
            return None
        values = self._read(path)
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise self._error(path, f"it is {values.dtype} of shape {values.shape}, not integers")
        if values.size and float(np.abs(values.astype(np.float64)).max()) > MOST_ROWS:
            raise self._error(path, f"a number in it is larger than {MOST_ROWS:,}")
        return values.astype(np.int64)

    def _hashes(self, count: int) -> list[tuple[int, int, int]]:
        """Return stat hash, content hash and crc32c of each utterance of an export of ours."""
        group = self.paths["frames"].rpartition("/")[0]
        attributes = self.nodes[group].metadata.get("attributes") if group in self.nodes else None
        if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
            return []
        columns = []
        for name in ("stat", "source", "crc32c"):
            path = f"{group}/{name}" if group else name
            if path not in self.nodes:
                raise self._error(path, "it is missing")
            columns.append([int(value) for value in self._read(path).ravel()])
        if {len(column) for column in columns} != {count}:
            raise self._error(group, f"stat, source or crc32c have not {count} values")
        return list(zip(*columns, strict=True))


def _decoded(value: object) -> str | None:
    """Return an id as text, None when it is not text."""
    try:
        return value.decode() if isinstance(value, bytes) else value if type(value) is str else None
    except UnicodeDecodeError:
        return None
