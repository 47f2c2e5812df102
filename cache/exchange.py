"""Features out to one HDF5 file, and in from HDF5, NumPy, PyTorch or safetensors files.

    <file>.h5           attributes: format, feature, fingerprint, spec, about and item_shape (json),
                        frame_rate, precision
      <utterance>       [frames, *item_shape] float16 or float32, contiguous
                        attribute ser: stat, source and the crc32c of the frames, u64 each

A dataset's name is the utterance's id, but "%", "/" and NUL are percent-escaped, and so are the
ids "." and "..", because HDF5 would take them for groups; `urllib.parse.unquote` undoes it. The
file has the hashes of each row, so an import gives the same cache and nothing is extracted again.
int8 is exported as float32; imported it is the same int8.

A *view* holds no frames: each dataset points at its bytes in a shard (HDF5 external storage), by
absolute path. When the cache moves, reading the view is an error; when a shard is cut short, HDF5
reads zeros in silence, which only the crc32c shows: the import compares it.

Memory is one utterance. A bad one is reported and harms no other. Nothing is ever unpickled.
"""

import errno
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ser.cache.arrays import FORMAT, USUAL_NAMES, Array, ArrayNames, Origin, load, opened
from ser.cache.feature_writer import FeatureWriter
from ser.cache.features import FeatureCache
from ser.cache.files import hash64
from ser.cache.foreign_shard import ForeignShard
from ser.cache.metadata import is_feature_name
from ser.cache.precision import Encoded, Precision, values
from ser.cache.shard import Row, ShardFrames, checksum, rows_of
from ser.corpus.atomic import staged
from ser.corpus.errors import UserError, first_line, shown
from ser.corpus.progress import steps

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass
class Report:
    """The counts of an export or import; `failed` has the reason for each utterance left out."""

    fingerprint: str
    count: int = 0
    skipped: int = 0  # already cached, from the same content
    overflowed: int = 0  # stored as float32 because float16 cannot hold them
    failed: dict[str, str] = field(default_factory=dict)


class _Output(io.FileIO):
    """A file that keeps the error of a full disk from HDF5, which would crash the process."""

    error: OSError | None = None

    def write(self, data: "Buffer") -> int:
        remaining = memoryview(data).cast("B")
        size = len(remaining)
        try:
            while remaining and self.error is None:
                remaining = remaining[super().write(remaining) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            super().truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size or 0

    def check(self) -> None:
        if self.error is not None:
            raise self.error


def export_hdf5(cache: FeatureCache, file: str | Path, view: bool = False) -> Report:
    """Write every utterance of a cache to one HDF5 file, whole or not at all.

    Each row's crc32c is compared while it is copied; damaged rows are left out and reported. With
    `view` the file points into the shards and no frames are read or compared. An earlier export of
    this name is replaced. Raises `UserError` when the file cannot be written or holds anything
    else, and for a view of int8 shards or of a remote cache.
    """
    file = Path(file)
    if view and cache.remote:
        raise UserError(f"{cache.location}: a view needs local shards; export without --view.")
    if file.is_file() and not _is_export(file):
        raise UserError(f"{file}: the file holds something else; export to another name.")
    with export_to(file):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        with staged(file) as part, _Output(part, "w+") as output:
            with h5py.File(output, "w") as out:
                report = _write(cache, out, output, view)
            output.check()
    return report


def _is_export(file: Path) -> bool:
    try:
        with h5py.File(file) as earlier:
            version = earlier.attrs.get("format")
    except (OSError, RuntimeError, KeyError, ValueError):  # no HDF5, or a damaged one
        return False
    return isinstance(version, str) and version == FORMAT


@contextmanager
def export_to(target: Path) -> Iterator[None]:
    """Make the folder that an export is written to; raise `UserError` where it cannot be."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"{target}: it cannot be written ({first_line(error)}); make room or export elsewhere."
        ) from error


def _write(cache: FeatureCache, out: h5py.File, output: _Output, view: bool) -> Report:
    out.attrs["format"] = FORMAT
    for key, value in exported_metadata(cache).items():
        out.attrs[key] = value if isinstance(value, str | float) else json.dumps(value)
    report, rows, dtypes = Report(cache.fingerprint), cache.index().sort("shard", "row"), set()
    for row in steps(rows_of(rows), cache.name, len(rows), unit="utt"):
        try:
            dtypes.add(_write_row(cache, out, row, view))
            report.count += 1
            output.check()
        except ValueError as error:
            report.failed[row.utterance] = str(error)
    out.attrs["precision"] = precision_of(dtypes)
    return report


def exported_metadata(cache: FeatureCache) -> dict[str, object]:
    """Return what an export states of its cache, so that it can be imported as the same cache."""
    stated: dict[str, object] = {
        "feature": cache.name,
        "fingerprint": cache.fingerprint,
        "spec": cache.spec,
        "about": {k: v for k, v in cache.extra_metadata.items() if k != "created"},
        "item_shape": list(cache.item_shape),
    }
    if (rate := cache.metadata.get("frame_rate")) is not None:
        stated["frame_rate"] = float(rate)
    return stated


def precision_of(dtypes: set[str]) -> str:
    """Return the precision of a folder with shards of these dtypes.

    One folder has one precision: float32 beside float16 is what float16 could not hold.
    """
    return min(dtypes - {"float32"}, default="float32")


def intact_frames(cache: FeatureCache, row: Row) -> tuple[np.ndarray, str]:
    """Return the frames of a row of the index, and the dtype that they are stored in.

    Raises `ValueError` when they are damaged or cannot be read.
    """
    try:
        shard = cache.shard(row.shard)
        encoded = shard.encoded(row.row, row.length, row.position)
        shard.fetch(row.row, row.length)
    except (UserError, OSError) as error:
        raise ValueError(str(error)) from error
    if checksum(encoded) != row.crc32c:
        raise ValueError(f"{shard.path}: the frames are damaged")
    return values(encoded), shard.dtype.name


def _write_row(cache: FeatureCache, out: h5py.File, row: Row, view: bool) -> str:
    name = row.utterance.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    name = name.replace(".", "%2E") if name in {".", ".."} else name
    if view:
        shard = _mapped(cache, row.shard)
        data = shard.encoded(row.row, row.length, row.position).data
        place = (str(shard.file.resolve()), row.row * shard.row_bytes, data.nbytes)
        dataset = out.create_dataset(name, data.shape, shard.dtype, external=[place])
        crc, dtype = row.crc32c, shard.dtype.name
    else:
        frames, dtype = intact_frames(cache, row)
        dataset = out.create_dataset(name, data=frames)
        crc = checksum(Encoded(frames))
    dataset.attrs["ser"] = np.array([row.stat, row.source, crc], dtype="<u8")
    return dtype


def _mapped(cache: FeatureCache, name: str) -> ShardFrames:
    """Return a shard that a view can point into; raises `ValueError` where it is damaged."""
    try:
        shard = cache.shard(name)
    except UserError as error:
        raise ValueError(str(error)) from error
    if isinstance(shard, ForeignShard):
        raise UserError(
            f"{shard.path}: another program has written it in other chunks; export without --view."
        )
    if shard.scale is not None:
        raise UserError(f"{shard.path}: int8 needs its scale; export without --view.")
    return shard


def import_features(
    source: str | Path,
    root: str | Path,
    name: str,
    *,
    frame_rate: float | None = None,
    precision: Precision = "float16",
    names: ArrayNames = USUAL_NAMES,
) -> Report:
    """Add the arrays of a file or folder to feature `name` of the cache at `root`.

    `source` is a file of `export_hdf5`, any HDF5 file (id: the dataset's path), or a folder of
    .npy, .pt, .pth and .safetensors files (id: the path below it without suffix, or the key where a
    file holds several tensors). An array is `(frames, dim)`, `(frames, layers, dim)`, or `(dim,)`
    for one frame; the first readable one, by id, decides the shape of a frame. `frame_rate` is in
    frames/s. It and `precision` are not used for a file of `export_hdf5`, which goes back under its
    own fingerprint, as it was stored. What is cached from the same content is skipped; failures are
    recorded in the cache. Raises `UserError` when there is nothing to import.
    """
    source = Path(source)
    if not is_feature_name(name):
        raise UserError(f"a feature cannot be called '{shown(name)}'; give the name of a folder.")
    with opened(source, names) as (arrays, stated):
        origin = stated or _imported(source, arrays, frame_rate, precision)
        cache = FeatureCache.create(root, name, origin.spec, origin.about)
        index = cache.index().select("utterance", "stat", "source")
        stored = {utterance: row for utterance, *row in index.iter_rows()}
        report = Report(cache.fingerprint)
        with cache.writer(origin.precision) as writer:
            for utterance in steps(arrays, name, len(arrays), unit="utt"):
                array = arrays[utterance]
                try:
                    hashes = stored.get(utterance, (None, None))
                    report.count += _append(writer, utterance, array, *hashes)
                except ValueError as error:
                    report.failed[utterance] = f"{array.file}: {error}"
    report.overflowed = len(writer.overflowed)
    report.skipped = len(arrays) - report.count - len(report.failed)
    cache.clean()
    if report.count or report.failed:
        cache.record(report.failed)
    return report


def _imported(
    source: Path, arrays: Mapping[str, Array], frame_rate: float | None, precision: Precision
) -> Origin:
    """Return the origin of arrays of others, of which the first readable one has the shape."""
    if frame_rate is None:
        raise UserError(f"{source}: it does not state the frames per second; give --frame-rate.")
    if not 0 < frame_rate < math.inf:
        raise UserError(f"{frame_rate:g} frames per second are impossible; correct --frame-rate.")
    errors = []
    for utterance in arrays:
        try:
            shape = list(load(arrays[utterance]).shape[1:])
        except ValueError as error:
            errors.append(f"{arrays[utterance].file}: {error}")
            continue
        spec: dict[str, object] = {"kind": "imported", "version": 1}
        if precision != "float16":
            spec["precision"] = precision
        return Origin(spec, {"item_shape": shape, "frame_rate": float(frame_rate)}, precision)
    which = f"none of its {len(errors)} arrays is" if len(errors) > 1 else "its one array is not"
    problem = f"{which} usable: {errors[0]}" if errors else "it has no arrays to import"
    raise UserError(f"{source}: {problem}; give one array for each utterance.")


def _append(
    writer: FeatureWriter,
    utterance: str,
    array: Array,
    stat_hash: int | None,
    content_hash: int | None,
) -> bool:
    """Write one array unless it is what the cache has; raises `ValueError` when it is unusable."""
    if content_hash is not None and (
        array.content_hash == content_hash or (array.stat_hash and array.stat_hash == stat_hash)
    ):
        return False
    frames = load(array)
    shape = repr((frames.shape, frames.dtype.str)).encode()
    content = hash64(shape + frames.tobytes()) if array.content_hash is None else array.content_hash
    if content != content_hash:
        writer.append(utterance, frames, array.stat_hash, content)
    return content != content_hash
