"""Features out to one HDF5 file, and in from HDF5, NumPy, PyTorch or safetensors files.

    <file>.h5           attributes: format, feature, fingerprint, spec, about and item_shape (json),
                        frame_rate, precision
      <utterance>       [frames, *item_shape] float16 or float32, contiguous
                        attribute ser: stat, source and the crc32c of the frames, u64 each

A dataset's name is the utterance's id, but "%", "/" and NUL are percent-escaped, and so are the
ids "." and "..", because HDF5 would take them for groups; `urllib.parse.unquote` undoes it. The
file keeps what the cache knows of each row, so imported again it is the same cache and nothing is
extracted anew. int8 is exported as the float32 it stands for; imported it is the same int8.

A *view* holds no frames: each dataset points at its bytes in a shard (HDF5 external storage), by
absolute path. When the cache moves, reading the view is an error; when a shard is cut short, HDF5
reads zeros in silence, which only the crc32c shows: the import compares it.

Memory is one utterance. A bad one is reported and harms no other. Nothing is ever unpickled.
"""

import io
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from cache.arrays import FORMAT, Array, load, opened, short
from cache.features import FeatureCache, FeatureWriter
from cache.files import hash64
from cache.precision import Encoded, Precision, values
from cache.shard import checksum
from corpus.errors import UserError


@dataclass
class Report:
    """Count what was exported or imported; `failed` says why of each utterance left out."""

    fingerprint: str
    count: int = 0
    skipped: int = 0  # in the cache already, from the same content
    overflowed: int = 0  # kept as float32 because float16 cannot hold them
    failed: dict[str, str] = field(default_factory=dict)


class _Output(io.FileIO):
    """Keep the error of a full disk from HDF5, which prints pages and then crashes the process."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        with self._keep():
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        with self._keep():
            super().truncate(size)
        return size or 0

    @contextmanager
    def _keep(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error

    def check(self) -> None:
        if self.error is not None:
            raise self.error


def export_hdf5(cache: FeatureCache, file: str | Path, view: bool = False) -> Report:
    """Write every utterance of a cache to one HDF5 file, whole or not at all.

    Each row's crc32c is compared while it is copied; damaged rows are left out and reported. With
    `view` the file points into the shards and no frames are read or compared. Raises `UserError`
    when the file cannot be written, and for a view of int8 shards or of a remote cache.
    """
    file = Path(file)
    if view and cache.remote:
        raise UserError(f"{cache.location}: a view needs local shards; export without --view.")
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _Output(part, "w+") as output:
            with h5py.File(output, "w") as out:
                report = _write(cache, out, output, view)
            output.check()
        part.replace(file)
    except OSError as error:
        raise UserError(
            f"{file}: it cannot be written ({short(error)}); make room or export elsewhere."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return report


def _write(cache: FeatureCache, out: h5py.File, output: _Output, view: bool) -> Report:
    about = {key: value for key, value in cache.more.items() if key != "created"}
    out.attrs.update(format=FORMAT, feature=cache.name, fingerprint=cache.fingerprint)
    said = {"spec": cache.about["spec"], "about": about, "item_shape": cache.item_shape}
    out.attrs.update({key: json.dumps(value) for key, value in said.items()})
    if about.get("frame_rate") is not None:
        out.attrs["frame_rate"] = float(about["frame_rate"])
    report, rows, dtypes = Report(cache.fingerprint), cache.index().sort("shard", "row"), set()
    bar = tqdm(rows.iter_rows(named=True), cache.name, len(rows), unit="utt", disable=None)
    for row in bar:
        try:
            dtypes.add(_write_row(cache, out, row, view))
            report.count += 1
            output.check()
        except ValueError as error:
            report.failed[row["utterance"]] = str(error)
    # one folder has one precision: float32 beside float16 is what float16 could not hold
    out.attrs["precision"] = min(dtypes - {"float32"}, default="float32")
    return report


def _write_row(cache: FeatureCache, out: h5py.File, row: Mapping[str, Any], view: bool) -> str:
    try:
        shard = cache.shard(row["shard"])
        encoded = shard.encoded(row["row"], row["length"], row["position"])
    except (UserError, OSError) as error:
        raise ValueError(str(error)) from error
    name = row["utterance"].replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    name = name.replace(".", "%2E") if name in {".", ".."} else name
    crc = row["crc32c"]
    if view:
        if encoded.scale is not None:
            raise UserError(f"{shard.path}: int8 needs its scale; export without --view.")
        place = (str(shard.file.resolve()), row["row"] * shard.row_bytes, encoded.data.nbytes)
        dataset = out.create_dataset(name, encoded.data.shape, shard.dtype, external=[place])
    else:
        if checksum(encoded) != crc:
            raise ValueError(f"{shard.path}: the frames are damaged")
        frames = values(encoded)
        crc = checksum(Encoded(frames))
        dataset = out.create_dataset(name, data=frames)
    dataset.attrs["ser"] = np.array([row["stat"], row["source"], crc], dtype="<u8")
    return shard.dtype.name


def import_features(
    source: str | Path,
    root: str | Path,
    name: str,
    *,
    frame_rate: float | None = None,
    precision: Precision = "float16",
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
    with opened(source) as (arrays, origin):
        if origin is None:
            spec, about = _imported(source, arrays, frame_rate, precision)
        else:
            spec, about, precision = origin
        cache = FeatureCache.create(root, name, spec, about)
        index = cache.index().select("utterance", "stat", "source")
        known = {utterance: row for utterance, *row in index.iter_rows()}
        report, done = Report(cache.fingerprint), []
        with cache.writer(precision) as writer:
            for utterance in tqdm(sorted(arrays), name, unit="utt", disable=None):
                array = arrays[utterance]
                try:
                    if _append(writer, utterance, array, *known.get(utterance, (None, None))):
                        done.append(utterance)
                except ValueError as error:
                    report.failed[utterance] = f"{array.file}: {error}"
    report.count, report.overflowed = len(done), len(writer.overflowed)
    report.skipped = len(arrays) - len(done) - len(report.failed)
    if done or report.failed:
        cache.record(report.failed)
    return report


def _imported(
    source: Path, arrays: Mapping[str, Array], frame_rate: float | None, precision: Precision
) -> tuple[dict[str, Any], dict[str, Any]]:
    if frame_rate is None or not frame_rate > 0:
        raise UserError(f"{source}: the frames per second are not known; give --frame-rate.")
    errors = []
    for utterance in sorted(arrays):
        try:
            shape = list(load(arrays[utterance]).shape[1:])
        except ValueError as error:
            errors.append(f"{arrays[utterance].file}: {error}")
            continue
        about = {"item_shape": shape, "frame_rate": float(frame_rate)}
        other = {} if precision == "float16" else {"precision": precision}
        return {"kind": "imported", "version": 1, **other}, about
    found = f"none of {len(errors)} is usable ({errors[0]})" if errors else "nothing is there"
    raise UserError(f"{source}: no arrays to import, {found}; give one array an utterance.")


def _append(
    writer: FeatureWriter, utterance: str, array: Array, stat: int | None, source: int | None
) -> bool:
    """Write one array unless it is what the cache has; raises `ValueError` when it is unusable."""
    if source is not None and (array.source == source or (array.stat and array.stat == stat)):
        return False
    frames = load(array)
    shape = repr((frames.shape, frames.dtype.str)).encode()
    content = hash64(shape + frames.tobytes()) if array.source is None else array.source
    if content != source:
        writer.append(utterance, frames, array.stat, content)
    return content != source
