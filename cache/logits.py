"""What a head says of every utterance: one small HDF5 file, readable without torch.

    /                 attributes: format, classes (json), attributes (json), head, fingerprint,
                      features (json)
    /<split>/         train, dev, test or unlabelled
                      attribute `rows`: in-sample | held-out | out-of-fold
        utterance     [n]           utf-8, padded to the longest; text of any length, as older
                                    files have, takes HDF5 several times as long to read
        logits        [n, classes]  float32
        label         [n]           int8, class index, -1 where there is none
        speaker       [n]           utf-8, padded too, "" where unknown
        fold          [n]           int8, the fold a row was held out in, -1 without folds
        in_sample     [n, classes]  float32, of out-of-fold rows only: what those heads say of a row
                                    that were trained on it
        predicted     [n, attributes]  float32, where the head predicts attributes, and
        truth         [n, attributes]  float32, what raters said, NaN where unknown

A head that predicts attributes alone has logits `[n, 0]`.
Labels and speakers travel with the logits so that the file, copied to a laptop, is all that the
stacker needs. Written under a temporary name and renamed: the file is whole or absent.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from corpus.errors import UserError

FORMAT = "ser-logits/1"
OPTIONAL = ("in_sample", "predicted", "truth")
UNLABELLED = "unlabelled"  # the group of rows whose split is ""


@dataclass(frozen=True)
class SplitLogits:
    """Hold one head's rows of one split, aligned with `utterance`.

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


@dataclass(frozen=True)
class HeadLogits:
    """Hold everything one `logits.h5` says."""

    head: str
    classes: tuple[str, ...]
    fingerprint: str
    features: dict[str, str]  # feature name -> fingerprint of its cache
    splits: Mapping[str, SplitLogits]
    attributes: tuple[str, ...] = ()

    def write(self, path: str | Path) -> None:
        """Write the file atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with h5py.File(part, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["head"] = self.head
            file.attrs["classes"] = json.dumps(self.classes)
            file.attrs["attributes"] = json.dumps(self.attributes)
            file.attrs["fingerprint"] = self.fingerprint
            file.attrs["features"] = json.dumps(self.features)
            for name, rows in self.splits.items():
                group = file.create_group(name or UNLABELLED)
                group.attrs["rows"] = rows.rows
                group.create_dataset("utterance", data=_padded(rows.utterance))
                group.create_dataset("label", data=np.asarray(rows.label, np.int8))
                group.create_dataset("speaker", data=_padded(rows.speaker))
                group.create_dataset("fold", data=np.asarray(rows.fold, np.int8))
                group.create_dataset("logits", data=np.asarray(rows.logits, np.float32))
                for field in OPTIONAL:
                    if (values := getattr(rows, field)) is not None:
                        group.create_dataset(field, data=np.asarray(values, np.float32))
        part.replace(path)

    @classmethod
    def read(cls, path: str | Path) -> "HeadLogits":
        """Read the file; raises `UserError` when it is missing, foreign or of another format."""
        return cls._read(Path(path), slice(None))

    @classmethod
    def read_header(cls, path: str | Path) -> "HeadLogits":
        """Read all but the rows: every array is there, of its width, with no row; raises as `read`.

        Costs a millisecond whatever the file's size.
        """
        return cls._read(Path(path), slice(0))

    @classmethod
    def _read(cls, path: Path, rows: slice) -> "HeadLogits":
        if not path.is_file():
            raise UserError(f"{path}: there are no logits; train the head with `ser heads train`.")
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise UserError(
                        f"{path}: the format is {file.attrs.get('format')!r}, not {FORMAT!r}; "
                        "train the head again with this version."
                    )
                return cls(
                    head=str(file.attrs["head"]),
                    classes=tuple(json.loads(file.attrs["classes"])),
                    fingerprint=str(file.attrs["fingerprint"]),
                    attributes=tuple(json.loads(file.attrs.get("attributes", "[]"))),
                    features=json.loads(file.attrs["features"]),
                    splits={
                        "" if name == UNLABELLED else name: _read_split(group, rows)
                        for name, group in file.items()
                    },
                )
        except OSError as error:
            raise UserError(
                f"{path}: not an HDF5 file ({error}); delete it and train the head again."
            ) from error


def _padded(texts: Sequence[str]) -> np.ndarray:
    encoded = [text.encode() for text in texts]
    longest = max(map(len, encoded), default=0)
    return np.array(encoded, h5py.string_dtype("utf-8", max(longest, 1)))


def _texts(dataset: h5py.Dataset, rows: slice) -> list[str]:
    return list(map(bytes.decode, dataset[rows].tolist()))  # half the time of h5py's asstr


def _read_split(group: h5py.Group, rows: slice) -> SplitLogits:
    return SplitLogits(
        utterance=_texts(group["utterance"], rows),
        label=group["label"][rows],
        speaker=_texts(group["speaker"], rows),
        fold=group["fold"][rows],
        rows=str(group.attrs["rows"]),
        logits=group["logits"][rows],
        **{name: group[name][rows] if name in group else None for name in OPTIONAL},
    )
