"""A shard whose bytes the fast path does not know, read through zarr-python.

A Zarr tool may have written the arrays of a shard again: compressed, in other chunks or shards, as
Zarr v2. The names, shapes and numbers are then as before, so the shard is read, more slowly, and
the crc32c of each utterance is compared as always.
"""

import errno
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import google_crc32c
import numpy as np

from ser.cache.files import AGAIN, readable
from ser.cache.json_file import read_object
from ser.cache.precision import Encoded
from ser.cache.zarr_store import ZarrError, open_array, read
from ser.corpus.errors import UserError, note_once

LAYOUT = ("chunk_grid", "chunk_key_encoding", "codecs")  # what another writer may choose


def has_other_layout(folder: Path, metadata: Callable[[Sequence[int], np.dtype], bytes]) -> bool:
    """Return whether an array has other chunks or codecs than ours, or is Zarr v2.

    `metadata` returns our `zarr.json` of a shape and dtype. What cannot be read has no layout.
    """
    file = folder / "zarr.json"
    if not file.exists():
        return (folder / ".zarray").exists()
    try:
        stated = read_object(file, AGAIN)
        ours = json.loads(metadata(stated["shape"], np.dtype(stated["data_type"])))
    except (UserError, OSError, KeyError, TypeError, ValueError):
        return False
    return any(stated.get(key) != ours[key] for key in LAYOUT)


def read_foreign(folder: Path, dtype: np.dtype) -> np.ndarray:
    """Read an array of a shard; raises `UserError` when it is damaged or of another dtype."""
    try:
        values = read(open_array(folder.parent, folder.name, _metadata(folder)))
    except ZarrError as error:
        raise UserError(f"{folder}: not readable ({error}); {AGAIN}.") from error
    if values.dtype != dtype:
        raise UserError(f"{folder}: the data type is {values.dtype}, not {dtype}; {AGAIN}.")
    return values.astype(dtype)


def created_of(group: Path) -> int | None:
    """Return when a shard was written (ns), None where its attributes are damaged."""
    import zarr

    try:
        attributes = dict(zarr.open_group(group, mode="r").attrs)
    except Exception:  # zarr-python has an exception for each kind of bad metadata
        return None
    created = attributes.get("created")
    checksum = google_crc32c.value(str(created).encode())
    return created if isinstance(created, int) and attributes.get("crc32c") == checksum else None


class ForeignShard:
    """The frames of a shard as zarr-python reads them; see `ser.cache.shard.ShardFrames`.

    Raises `UserError` for an array that cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path / "frames"
        try:
            self._frames = open_array(path, "frames", _metadata(self.file))
        except ZarrError as error:
            raise UserError(f"{self.file}: not readable ({error}); {AGAIN}.") from error
        self.shape: tuple[int, ...] = self._frames.shape
        self.dtype: np.dtype = self._frames.dtype.newbyteorder("<")
        if self.dtype.name not in ("float16", "float32", "int8") or len(self.shape) not in (2, 3):
            problem = f"its arrays are {self.dtype} of shape {self.shape}, not frames"
            raise UserError(f"{self.file}: {problem}; {AGAIN}.")
        scale = np.dtype("<f4")
        self.scale = read_foreign(path / "scale", scale) if self.dtype.kind == "i" else None
        note_once(
            f"{path.parent}: another program has written some of it in other chunks, so it is read "
            "through zarr-python, which is slower; export it and import it again to make it fast."
        )

    @property
    def nbytes(self) -> int:
        """Return the bytes of the frames in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def encoded(self, row: int, length: int, position: int) -> Encoded:
        """Read one utterance; raises `ValueError` for rows it has not, `OSError` for damage."""
        utterances = position + 1 if self.scale is None else len(self.scale)
        if not (0 <= row <= row + length <= self.shape[0] and 0 <= position < utterances):
            raise ValueError("the shard has no such rows")
        try:
            frames = read(self._frames, row, row + length)
        except ZarrError as error:
            raise OSError(errno.EIO, str(error), str(self.file)) from error
        data = np.ascontiguousarray(frames, self.dtype)
        return Encoded(data, None if self.scale is None else self.scale[position])

    def fetch(self, row: int, length: int) -> None:
        """Do nothing: `encoded` has read the rows."""

    def will_need(self, row: int, length: int) -> None:
        """Do nothing: zarr-python reads no rows ahead."""


def _metadata(folder: Path) -> dict[str, object]:
    file = folder / ("zarr.json" if (folder / "zarr.json").exists() else ".zarray")
    with readable(file, AGAIN):
        return read_object(file, AGAIN)
