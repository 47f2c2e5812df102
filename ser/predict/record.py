"""`bundle.json`: what a bundle holds, and the sha256 and size of every other member."""

from pathlib import Path

from pydantic import Field, ValidationError

from ser.cache.json_file import parse_object
from ser.cache.record import FileName
from ser.corpus.config import Section
from ser.corpus.errors import DamagedError, UserError
from ser.predict.evaluation import Evaluation, Plain

FORMAT = "ser-bundle/1"
BUNDLE_JSON = "bundle.json"
NAME = r"\w[\w.-]*"
AGAIN = "get a new copy of the bundle (this file is damaged or was tampered with)"


class Member(Section):
    """The checksum and size of one member of the zip."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}\z")
    size: int = Field(ge=0)


class Feature(Section):
    """How a feature is extracted; `weights` is the digest that the model must have."""

    kind: Plain
    model: Plain | None = None
    weights: Plain | None = None
    licence: Plain
    challenge: bool | None = None  # allowed in the Interspeech 2025 challenge, where known
    embedded: str | None = Field(default=None, pattern=rf"^models/{NAME}$")


class BundleRecord(Section):
    """The record bundle.json; `stack` is the stack's model, None for a single head.

    `licence` is that of the weights in it, where its maker gave one.
    """

    format: str
    made: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\z")
    ser: str = Field(max_length=100, pattern=r"^[0-9][0-9A-Za-z.+!-]*\z")
    heads: tuple[FileName, ...] = Field(min_length=1)
    stack: Plain | None
    classes: tuple[Plain, ...]
    attributes: tuple[Plain, ...]
    features: dict[FileName, Feature]
    members: dict[str, Member]
    licence: Plain | None = None
    evaluation: Evaluation | None = None


def parse_record(path: Path, text: bytes) -> BundleRecord:
    """Read the text of a bundle.json; raises `UserError` for one that is not valid."""
    try:
        values = parse_object(path, text, AGAIN)
        if values.get("format") != FORMAT:
            found = str(values.get("format"))[:40]
            raise UserError(
                f"{path}: its format is {found!r} and this version of ser reads {FORMAT!r}; use "
                "the version that packed it, or pack it again."
            )
        return BundleRecord.model_validate(values)
    except DamagedError as error:
        raise refused(path, BUNDLE_JSON, f"is not readable ({error.problem})") from error
    except ValidationError as error:
        raise refused(path, BUNDLE_JSON, "is not valid") from error


def refused(path: Path, member: str, what: str) -> UserError:
    """Return the error for a member that a bundle may not have."""
    return UserError(f"{path}: the member {member[:200]!r} {what}; {AGAIN}.")
