"""The outputs of a head for every utterance: one small HDF5 file, readable without torch.

    512 bytes         HDF5's user block: the crc32c of the rest of the file, which is compared
                      before HDF5 reads any of it
    /                 attributes: format, classes (json), attributes (json), head, fingerprint,
                      features (json), groups (json), synthetic (share of the utterances whose
                      speech is synthetic; not in older files)
    /<split>/         train, dev, test or unlabelled
                      attribute `rows`: in-sample | held-out | out-of-fold
        utterance     [n]           utf-8, padded to the longest; text of any length, as older
                                    files have, takes HDF5 several times as long to read
        logits        [n, classes]  float32
        label         [n]           int8, class index, -1 where there is none
        speaker       [n]           utf-8, padded too, "" where unknown
        fold          [n]           int8, the fold a row was held out in, -1 without folds
        groups        [n, groups]   utf-8, padded too, "" where unknown: the columns of the manifest
                                    that scores are split by; not in older files
        in_sample     [n, classes]  float32, of out-of-fold rows only: what those heads say of a row
                                    that were trained on it
        predicted     [n, attributes]  float32, where the head predicts attributes, and
        truth         [n, attributes]  float32, the raters' labels, NaN where unknown

A head that predicts attributes alone has logits `[n, 0]`.
Labels and speakers travel with the logits so that the file, copied to a laptop, is all that the
stacker needs. Written under a temporary name and renamed: the file is whole or absent. Files of
older versions have no user block, and are read without a check.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import google_crc32c
import h5py
import numpy as np

from ser.cache.checksums import note_unchecked
from ser.corpus.atomic import write_durably
from ser.corpus.errors import TRAIN_AGAIN, DamagedError, UserError, first_line

FORMAT = "ser-logits/1"
OPTIONAL = ("in_sample", "predicted", "truth")
SIGNATURE = b"\x89HDF\r\n\x1a\n"  # how a file without user block begins
BLOCK = 512  # bytes, the smallest that HDF5 allows
UNLABELLED = "unlabelled"  # the group of rows whose split is ""


@dataclass(frozen=True)
class SplitLogits:
    """One head's rows of one split, aligned with `utterance`.

    `rows` is "in-sample" (the head was trained on them), "held-out" (it was not), or
    "out-of-fold" (each row was scored by a head that had not seen its speaker).
    """

    utterance: list[str]
    logits: np.ndarray  # (n, classes) float32; (n, 0) of attributes alone
    label: np.ndarray  # (n,) int8
    speaker: list[str]
    fold: np.ndarray  # (n,) int8
    rows: str
    in_sample: np.ndarray | None = None  # (n, classes) float32
    predicted: np.ndarray | None = None  # (n, attributes) float32
    truth: np.ndarray | None = None  # (n, attributes) float32
    groups: list[list[str]] | None = None  # (n, groups)


@dataclass(frozen=True)
class HeadLogits:
    """The logits of one head for every utterance: one `logits.h5`.

    Args:
        head: its name.
        classes: the classes, in the order of the columns.
        fingerprint: that of the head.
        features: the fingerprint of each feature that it reads.
        splits: the rows of train, dev, test and of no split ("").
        attributes: those that it predicts.
        groups: columns of the manifest that scores are grouped by, such as gender.
        synthetic: the share of synthetic speech; None in older files.

        >>> logits = HeadLogits.read("runs/mine/heads/audio/logits.h5")
        >>> logits.classes, logits.splits["dev"].logits.shape
        (('angry', 'sad'), (10, 2))
    """

    head: str
    classes: tuple[str, ...]
    fingerprint: str
    features: dict[str, str]  # feature name -> fingerprint of its cache
    splits: Mapping[str, SplitLogits]
    attributes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()  # columns of the manifest, such as gender
    synthetic: float | None = None  # share of the utterances, None in older files

    def write(self, path: str | Path) -> None:
        """Write the file atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # HDF5 writes into memory: on a full disk it would crash the process
        with h5py.File(path, "w", driver="core", backing_store=False, userblock_size=BLOCK) as file:
            self._fill(file)
            file.flush()
            content = file.id.get_file_image()  # without the user block
        write_durably(path, _block(content) + content)

    def _fill(self, file: h5py.File) -> None:
        file.attrs["format"] = FORMAT
        file.attrs["head"] = self.head
        file.attrs["classes"] = json.dumps(self.classes)
        file.attrs["attributes"] = json.dumps(self.attributes)
        file.attrs["fingerprint"] = self.fingerprint
        file.attrs["features"] = json.dumps(self.features)
        file.attrs["groups"] = json.dumps(self.groups)
        if self.synthetic is not None:
            file.attrs["synthetic"] = self.synthetic
        for name, rows in self.splits.items():
            group = file.create_group(name or UNLABELLED)
            group.attrs["rows"] = rows.rows
            group.create_dataset("utterance", data=_padded(rows.utterance))
            group.create_dataset("label", data=np.asarray(rows.label, np.int8))
            group.create_dataset("speaker", data=_padded(rows.speaker))
            group.create_dataset("fold", data=np.asarray(rows.fold, np.int8))
            group.create_dataset("logits", data=np.asarray(rows.logits, np.float32))
            if rows.groups is not None and self.groups:
                cells = _padded([cell for row in rows.groups for cell in row])
                table = cells.reshape(len(rows.groups), len(self.groups))
                group.create_dataset("groups", data=table)
            for field in OPTIONAL:
                if (values := getattr(rows, field)) is not None:
                    group.create_dataset(field, data=np.asarray(values, np.float32))

    @classmethod
    def read(cls, path: str | Path) -> "HeadLogits":
        """Read the file; raises `UserError` when it is missing, foreign or damaged."""
        return cls._read(Path(path), slice(None))

    @classmethod
    def read_header(cls, path: str | Path) -> "HeadLogits":
        """Read all but the rows: every array is there, of its width, without a row.

        Raises as `read`.
        """
        return cls._read(Path(path), slice(0))

    @classmethod
    def _read(cls, path: Path, rows: slice) -> "HeadLogits":
        if not path.is_file():
            raise UserError(f"{path}: there are no logits; train it with `ser heads train-all`.")
        _check(path)
        try:
            with h5py.File(path, "r") as file:
                attributes = cast("Mapping[str, Any]", file.attrs)
                if attributes.get("format") != FORMAT:
                    problem = f"the format is {attributes.get('format')!r}, not {FORMAT!r}"
                    raise DamagedError(path, problem, TRAIN_AGAIN)
                synthetic = attributes.get("synthetic")
                head = cls(
                    head=str(attributes["head"]),
                    classes=tuple(json.loads(attributes["classes"])),
                    fingerprint=str(attributes["fingerprint"]),
                    attributes=tuple(json.loads(attributes.get("attributes", "[]"))),
                    groups=tuple(json.loads(attributes.get("groups", "[]"))),
                    synthetic=None if synthetic is None else float(synthetic),
                    features=json.loads(attributes["features"]),
                    splits={
                        "" if name == UNLABELLED else name: _read_split(group, rows)
                        for name, group in file.items()
                    },
                )
                if contradiction := _contradiction(head):
                    raise DamagedError(path, contradiction, TRAIN_AGAIN)
                return head
        except DamagedError:
            raise
        except Exception as error:  # h5py raises all kinds of them for a damaged file
            raise DamagedError(
                path, f"not readable as HDF5 ({first_line(error)})", TRAIN_AGAIN
            ) from error


def _check(path: Path) -> None:
    """Require the checksum before HDF5 reads the file.

    A flipped bit in HDF5's own structures can crash its library, or keep it busy for ever. Raises
    `DamagedError`.
    """
    data = path.read_bytes()
    if data.startswith(SIGNATURE):
        note_unchecked(path.absolute().parent.parent.parent)
        return
    if data[:BLOCK] != _block(data[BLOCK:]):
        problem = "it is damaged (its checksum is not that of its content)"
        raise DamagedError(path, problem, TRAIN_AGAIN)


def _block(content: bytes) -> bytes:
    """Return the user block: the file's first 512 bytes, which HDF5 leaves to the user."""
    return (b"ser logits, crc32c %08x\n" % google_crc32c.value(content)).ljust(BLOCK, b"\0")


def _contradiction(head: HeadLogits) -> str | None:
    """Return in what the columns of a file contradict each other, None if they do not."""
    if len(set(head.classes)) != len(head.classes):
        return f"the classes are not unique ({', '.join(head.classes)})"
    for split, rows in head.splits.items():
        name, count = split or UNLABELLED, len(rows.utterance)
        for field in ("logits", "label", "speaker", "fold", "groups", *OPTIONAL):
            values = getattr(rows, field)
            if values is not None and len(values) != count:
                return f"{name} has {count} utterances, but {len(values)} rows of {field}"
        if head.groups and rows.groups is None:
            return f"{name} has no groups, although the file names {', '.join(head.groups)}"
        if any(len(cells) != len(head.groups) for cells in rows.groups or ()):
            return f"the groups of {name} are not the {len(head.groups)} that the file names"
        odd = rows.label[(rows.label < -1) | (rows.label >= len(head.classes))]
        if len(odd):
            return f"a label of {name} is {odd[0]}, but there are {len(head.classes)} classes"
    return None


def _padded(texts: Sequence[str]) -> np.ndarray:
    encoded = [text.encode() for text in texts]
    longest = max(map(len, encoded), default=0)
    return np.array(encoded, h5py.string_dtype("utf-8", max(longest, 1)))


def _texts(dataset: h5py.Dataset, rows: slice) -> list[str]:
    texts = dataset[rows]
    if texts.dtype.kind != "S" or texts.ndim != 1:  # of another program: of no fixed length
        return list(map(bytes.decode, texts.tolist()))
    return list(_decoded(texts.tobytes(), texts.dtype.itemsize))


@lru_cache(8)
def _decoded(data: bytes, width: int) -> tuple[str, ...]:
    """Decode texts of a width in bytes, those that all heads of a run have only once."""
    return tuple(map(bytes.decode, np.frombuffer(data, f"S{width}").tolist()))


def _cells(dataset: h5py.Dataset, rows: slice) -> list[list[str]]:
    return [[cell.decode() for cell in row] for row in dataset[rows].tolist()]


def _read_split(group: Any, rows: slice) -> SplitLogits:  # h5py types no dataset in a group
    return SplitLogits(
        utterance=_texts(group["utterance"], rows),
        label=group["label"][rows],
        speaker=_texts(group["speaker"], rows),
        fold=group["fold"][rows],
        rows=str(group.attrs["rows"]),
        logits=group["logits"][rows],
        groups=_cells(group["groups"], rows) if "groups" in group else None,
        **{name: group[name][rows] if name in group else None for name in OPTIONAL},
    )
