"""JSON files of a run as typed models: bounded when read, written durably."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from ser.cache.json_file import read_object, to_text
from ser.corpus.atomic import write_durably
from ser.corpus.config import describe
from ser.corpus.errors import CONTROLS, DamagedError


def _unique(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError("a name appears twice")
    return values


# A name that is part of a path: it has no separator and does not begin with a dot.
FileName = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*\z", max_length=200)]
Label = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=rf"^[^{CONTROLS}]*\z")
]
Labels = Annotated[list[Label], Field(min_length=1, max_length=1000), AfterValidator(_unique)]
# A bound inside a pattern of Unicode's letters would take 0.15 s to compile, for every field.
Hash = Annotated[str, StringConstraints(pattern=r"^[\w:.-]+\z", max_length=200)]
# What made logits of anywhere; compared, and never a part of a path.
Origin = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+\z", max_length=200)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class Record(BaseModel):
    """A JSON file of a run; a subclass has its fields, and the remedy for a damaged file.

    Keys that are not known are left out, so that older and newer files can be read.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)
    remedy: ClassVar[str]
    indent: ClassVar[int] = 1

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; raises `DamagedError` for one that is missing, damaged or out of bounds."""
        return cls.parse(path, read_object(path, cls.remedy))

    @classmethod
    def parse(cls, path: Path, values: dict[str, object]) -> Self:
        """Validate what was read from `path`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise DamagedError(path, describe(error), cls.remedy) from error

    def to_json(self) -> str:
        """Return the text of the file; fields that were not set are left out.

        Its last field is the checksum of the others.
        """
        return to_text(self.model_dump(mode="json", exclude_unset=True), self.indent)

    def write(self, path: Path) -> None:
        """Write the file so that it is there whole or not at all."""
        write_durably(path, self.to_json())
