"""`head.json`: what a trained head was made from and how it is built; written last."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError, field_validator, model_validator

from ser.cache.checksums import note_unchecked
from ser.cache.record import Count, FileName, Hash, Labels, Record
from ser.corpus.config import describe
from ser.corpus.errors import TRAIN_AGAIN, DamagedError, UserError
from ser.heads.config import HeadConfig, parse_head
from ser.heads.scaling import SCALED
from ser.score.record import DevScore

FILE = "head.json"
LARGEST_FRAME = 1 << 22  # numbers of one frame, all its layers together
Size = Annotated[int, Field(ge=1, le=1 << 20)]
Shape = Annotated[list[Size], Field(min_length=1, max_length=3)]


class _Origin(Record):
    """The part of `made_from` that prediction needs."""

    classes: Labels
    features: dict[FileName, Hash]


class HeadRecord(Record):
    """What is in `head.json`; a fine-tuned model's head has `kind`, `model` and the like too.

    Attributes:
        made_from: everything that the head's numbers depend on; its hash is the `fingerprint`.
        config: the head's options as plain values; see `head_config`.
        frames: for each feature the shape of a frame, `(dim,)` or `(layers, dim)`.
        outputs: the width of each output, such as `logits`.
        weights: for each training that is kept, the name of its safetensors file.
        score: the dev score that the best epoch was chosen by; None without one.
        synthetic: the share of its training clips that are synthetic speech, 0 to 1; None in files
            of earlier versions. It is no part of the fingerprint.
        failed: utterances that a fine-tuned model could not read, and why.
        checksums: for each other file of the folder a hash of its content.
    """

    remedy: ClassVar[str] = TRAIN_AGAIN

    head: FileName
    kind: str | None = None
    fingerprint: Hash
    made_from: dict[str, Any]
    model: dict[str, Any] | None = None
    config: dict[str, Any]
    frames: dict[FileName, Shape]
    outputs: dict[FileName, Annotated[int, Field(ge=1, le=10_000)]]
    weights: Annotated[list[FileName], Field(min_length=1, max_length=128)]
    trainable_parameters: Count | None = None
    parameters: Count | None = None
    best_epochs: dict[FileName, int] = Field(default_factory=dict)
    score: DevScore = None
    dev: dict[str, DevScore] = Field(default_factory=dict)
    synthetic: Annotated[float, Field(ge=0, le=1)] | None = None
    failed: dict[str, str] = Field(default_factory=dict)
    epochs: Count
    processes: Count | None = None
    seconds: Annotated[float, Field(ge=0, le=1e12)]
    machine: dict[str, str | int | float | None] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    checksums: dict[FileName, Hash] = Field(default_factory=dict, max_length=1000)

    @field_validator("made_from")
    @classmethod
    def _names_classes_and_features(cls, made_from: dict[str, object]) -> dict[str, object]:
        try:
            _Origin.model_validate(made_from)
        except ValidationError as error:
            raise ValueError(describe(error)) from error
        return made_from

    @model_validator(mode="after")
    def _consistent(self) -> "HeadRecord":
        for name, shape in self.frames.items():
            if math.prod(shape) > LARGEST_FRAME:
                raise ValueError(f"a frame of '{name}' has {math.prod(shape)} numbers: too many")
        if len(set(self.weights)) != len(self.weights):
            raise ValueError("'weights' names a file twice")
        if not set(self.features) >= set(self.frames):
            raise ValueError("'frames' has a feature that 'made_from' has not")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes in the order of the logits."""
        return tuple(self.made_from["classes"])

    @property
    def features(self) -> dict[str, str]:
        """Return the fingerprint of each feature's cache."""
        return dict(self.made_from["features"])

    def head_config(self, path: Path) -> HeadConfig:
        """Return the options; raises `DamagedError` where this version of ser has no such head.

        `path` is the file they were read from.
        """
        try:
            options = {k: v for k, v in self.config.items() if k != "architecture"}
            config = parse_head(options | self.config.get("architecture", {}))
        except ValidationError as error:
            raise DamagedError(path, f"its config: {describe(error)}", self.remedy) from error
        except (TypeError, ValueError, UserError) as error:
            problem = str(error).rstrip(".").replace("; ", ", ")
            raise DamagedError(path, f"its config: {problem}", self.remedy) from error
        if self.made_from.get("revision", 1) != config.architecture.revision:
            problem = f"this version of ser computes '{config.head}' differently"
            raise DamagedError(path, problem, self.remedy)
        for name in config.feature_names:
            if name not in self.frames:
                raise DamagedError(path, f"it has no frames of the feature '{name}'", self.remedy)
        return config


def is_stale(record: HeadRecord, config: HeadConfig, classes: Sequence[str]) -> bool:
    """Return whether a head was trained with other options or classes than the pipeline's.

    Only the record is read: changed labels, splits and features are noticed by `current_heads`.
    Options that depend on the number of training clips are compared where `config` gives them.
    """
    if record.classes != tuple(classes):
        return True
    recorded = record.made_from.get("config")
    if not isinstance(recorded, dict):  # of an earlier version
        return False
    ignored = set(SCALED) - config.model_fields_set
    return {key: recorded[key] for key in recorded if key not in ignored} != config.spec()


def read_done(run: Path, name: str) -> HeadRecord | None:
    """Read the record of a head of a run; None where it is not trained.

    Raises `DamagedError` for a record that is damaged.
    """
    path = head_file(run, name)
    if not path.exists():
        return None
    record = HeadRecord.read(path)
    if not record.checksums:
        note_unchecked(run)
    return record


def head_file(run: Path, name: str) -> Path:
    """Return where a head's record is; the head is trained when it exists."""
    return run.joinpath("heads", name, FILE)
