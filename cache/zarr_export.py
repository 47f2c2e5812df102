"""Features out to one Zarr v3 store that any Zarr reader opens, and `ser cache import` reads back.

    <store>.zarr/    a group; attributes: format, feature, fingerprint, spec, about, item_shape,
                     frame_rate and precision
      frames         [rows, *item_shape] float16 or float32, utterances back to back, in chunks of
                     about 8 MB
      utterance      [n, longest] uint8: the ids in UTF-8, padded with zero bytes
      offsets        [n + 1] int64: utterance i is rows offsets[i] to offsets[i + 1]
      crc32c         [n] uint32, of the frames as they are in this store
      stat, source   [n] uint64: hashes of the audio, so that an import is not extracted again

It is one array with offsets, and not one array an utterance, because 100,000 utterances are then a
few thousand files instead of 200,000, ids may have any character, and neighbours are read in one
piece. Chunks are not compressed (features hardly shrink) and have the codec crc32c. int8, and
float16 beside float32, are exported as float32 without loss; imported they are the same bytes as
before.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ser.cache.exchange import Report, export_to, exported_metadata, intact_frames, precision_of
from ser.cache.feature_writer import encode_names
from ser.cache.features import FeatureCache
from ser.cache.json_file import read_object
from ser.cache.precision import Encoded
from ser.cache.shard import checksum, rows_of
from ser.cache.swap import staged_folder
from ser.cache.zarr_ragged import FORMAT
from ser.corpus.errors import UserError
from ser.corpus.progress import steps

if TYPE_CHECKING:
    import zarr

    from ser.cache.zarr_store import ZarrArray

CHUNK_BYTES = 8 << 20
COLUMNS = {"crc32c": "uint32", "stat": "uint64", "source": "uint64"}


def export_zarr(cache: FeatureCache, folder: str | Path) -> Report:
    """Write every utterance of a cache to one Zarr store, whole or not at all.

    Each row's crc32c is compared while it is copied; damaged rows are left out and reported. An
    earlier export in this folder is replaced. Memory is one chunk and one utterance. Raises
    `UserError` when the store cannot be written, or the folder holds anything else.
    """
    folder = Path(folder)
    _require_replaceable(folder)
    with export_to(folder), staged_folder(folder) as staged:
        return _write(cache, staged)


def _require_replaceable(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        with suppress(UserError):
            attributes = read_object(folder / "zarr.json", "export elsewhere").get("attributes")
            if isinstance(attributes, dict) and attributes.get("format") == FORMAT:
                return
        raise UserError(f"{folder}: the folder holds something else; export to another name.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: it is a file; export to another name.")


def _write(cache: FeatureCache, folder: Path) -> Report:
    import zarr

    rows = cache.index().sort("shard", "row")
    report, utterances, lengths = Report(cache.fingerprint), list[str](), list[int]()
    columns: dict[str, list[int]] = {name: [] for name in COLUMNS}
    stored = set[str]()
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    array = _create_frames(group, cache, rows)

    def intact_clips() -> Iterator[np.ndarray]:
        for row in steps(rows_of(rows), cache.name, len(rows), unit="utt"):
            try:
                read, dtype = intact_frames(cache, row)
            except ValueError as error:
                report.failed[row.utterance] = str(error)
                continue
            frames = read.astype(array.dtype)
            stored.add(dtype)
            utterances.append(row.utterance)
            lengths.append(len(frames))
            values = (checksum(Encoded(frames)), row.stat, row.source)
            for name, value in zip(COLUMNS, values, strict=True):
                columns[name].append(value)
            yield frames

    written = 0
    for chunk in _chunks(intact_clips(), array.chunks[0]):
        array[written : written + len(chunk)] = chunk
        written += len(chunk)
    array.resize((written, *array.shape[1:]))
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    _add(group, "utterance", encode_names(utterances))
    _add(group, "offsets", offsets)
    for name, dtype in COLUMNS.items():
        _add(group, name, np.array(columns[name], dtype))
    attributes: Any = exported_metadata(cache)  # zarr's type of JSON
    group.attrs.update({"format": FORMAT, **attributes, "precision": precision_of(stored)})
    report.count = len(utterances)
    return report


def _chunks(clips: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """Yield the frames of clips, so many rows at a time; the last may be fewer."""
    parts, count = list[np.ndarray](), 0
    for frames in clips:
        parts.append(frames)
        count += len(frames)
        if count >= rows:
            joined, whole = np.concatenate(parts), count // rows * rows
            yield from (joined[start : start + rows] for start in range(0, whole, rows))
            parts, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(parts)


def _create_frames(group: "zarr.Group", cache: FeatureCache, rows: pl.DataFrame) -> "ZarrArray":
    dtypes = set[str]()
    for name in rows["shard"].unique():
        try:
            dtypes.add(cache.shard(name).dtype.name)
        except UserError:  # its rows are reported when they are read
            continue
    dtype = "float16" if dtypes == {"float16"} else "float32"
    row_bytes = math.prod(cache.item_shape) * np.dtype(dtype).itemsize
    chunk = max(1, min(CHUNK_BYTES // row_bytes, int(rows["length"].sum())))
    shape = (int(rows["length"].sum()), *cache.item_shape)
    return _create(group, "frames", shape, (chunk, *cache.item_shape), dtype)


def _add(group: "zarr.Group", name: str, values: np.ndarray) -> None:
    shape = values.shape
    array = _create(group, name, shape, tuple(max(n, 1) for n in shape), values.dtype.name)
    if values.size:
        array[:] = values


def _create(
    group: "zarr.Group", name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str
) -> "ZarrArray":
    from zarr.codecs import Crc32cCodec

    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=np.dtype(dtype).newbyteorder("<").str,
        compressors=[Crc32cCodec()],
        config={"write_empty_chunks": True},  # or frames of zeros would look like lost ones
    )
