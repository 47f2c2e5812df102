"""`stack.json`: a fitted stack's options and inputs; written last."""

from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, ValidationError

from ser.cache.json_file import read_object
from ser.cache.record import Count, FileName, Hash, Label, Labels, Origin, Record
from ser.corpus.config import describe
from ser.corpus.errors import DamagedError
from ser.score.record import Offsets, Temperature, offsets_problem
from ser.stack.config import AUTO, ProtocolName, StackConfig

FORMAT: Final = "ser-stack/2"
MOST_MEMBERS = 10_000  # folds times draws


class Candidate(Record):
    """A candidate of `model: auto`, scored on training rows held out of it.

    Attributes:
        model: its name.
        macro_f1: its macro-F1.
        error: standard error, over speakers, of its difference to the preferred candidate.
        chosen: whether it was chosen.
    """

    model: Label
    macro_f1: Annotated[float, Field(ge=0, le=1)]
    error: Annotated[float, Field(ge=0, le=1)]
    chosen: bool


class StackRecord(Record):
    """The content of `stack.json`.

    Attributes:
        config: the stack's options as plain values; see `stack_config`.
        temperature: what the log probabilities are divided by.
        offsets: what is added to the log probability of each class; empty without `offsets`.
        candidates: those of `model: auto`; `config` has the chosen model.
        heads: the heads in the order of the columns, and their fingerprints.
        rows: how many rows the stack was fitted on.
        checksums: a content hash of each of the folder's other files.
    """

    remedy: ClassVar[str] = "fit the stack again with `ser stack fit`"
    indent: ClassVar[int] = 2

    format: Literal["ser-stack/2"]
    fingerprint: Hash
    config: dict[str, object]
    protocol: ProtocolName
    temperature: Temperature
    heads: Annotated[dict[FileName, Origin], Field(min_length=1, max_length=1000)]
    classes: Labels
    attributes: Annotated[list[Label], Field(max_length=100)]
    rows: Count
    rows_per_class: dict[Label, Count]
    offsets: Offsets = Field(default_factory=list)
    candidates: Annotated[list[Candidate], Field(max_length=100)] = Field(default_factory=list)
    checksums: dict[FileName, Hash] = Field(default_factory=dict, max_length=20_000)

    @property
    def model(self) -> str:
        """The name of the model; of `auto`, of the one that was chosen."""
        return str(self.config["model"])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; raises `DamagedError` for damage, and for another format."""
        values = read_object(path, cls.remedy)
        if values.get("format") != FORMAT:
            actual = str(values.get("format"))[:50]
            raise DamagedError(path, f"the format is {actual!r}, not {FORMAT!r}", cls.remedy)
        return cls.parse(path, values)

    def stack_config(self, path: Path) -> StackConfig:
        """Return the options; raises `DamagedError` where they are not valid.

        `path` is the file they were read from.
        """
        try:
            config = StackConfig.model_validate(self.config)
        except ValidationError as error:
            raise DamagedError(path, f"its config: {describe(error)}", self.remedy) from error
        if config.model == AUTO:
            raise DamagedError(path, "its config does not name the model", self.remedy)
        members = config.folds * (config.draws or 1) if config.folded else 1
        if members > MOST_MEMBERS:
            problem = f"its config has {members} members (folds times draws), which is too many"
            raise DamagedError(path, problem, self.remedy)
        unequal = offsets_problem(self.offsets, self.classes if config.offsets else [])
        if unequal is not None:
            raise DamagedError(path, unequal, self.remedy)
        return config
