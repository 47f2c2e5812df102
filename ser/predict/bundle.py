"""One file to predict with, `bundle.ser`: a zip of data, never of code.

    bundle.json                   what is here: sha256 and size of every other member, the heads,
                                  the stack, each feature's model by id and digest
    pipeline.yaml, card.md        as resolved, without a path; the model card
    heads/<head>/                 head.json and *.safetensors of the heads that are asked
    stack/                        stack.json, fold-<i>.skops|.txt, *.json
    models/<feature>/             the fine-tuned models, and the foundation models where they were
                                  embedded

1. Hash the file. What was unpacked under that hash before was checked then.
2. Else refuse what no bundle has (other names, links, compression, members twice or overlapping),
   unpack beside, hashing every member, and rename the folder once all are as bundle.json says.
3. Only then is anything read: safetensors, skops with its fixed types, LightGBM text, JSON, YAML
   without plugins, variables or aliases, models without code of their own.

Hashes find damage, and a change of one who cannot rewrite bundle.json. Who made a bundle is told by
the sha256 of the whole file, when its maker published it.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import yaml
from pydantic import Field, ValidationError

from corpus.config import Section
from corpus.errors import UserError
from extract.models import Weights, resolve
from ser.pipeline import Pipeline

FORMAT = "ser-bundle/1"
ABOUT, PIPELINE, CARD = "bundle.json", "pipeline.yaml", "card.md"
NAME = r"\w[\w.-]*"
MODEL_FILE = rf"(?!pytorch_|adapter_){NAME}\.(?:safetensors|json|txt|model)|model\.bin"
MEMBER = re.compile(
    rf"{re.escape(ABOUT)}|{re.escape(PIPELINE)}|{re.escape(CARD)}"
    rf"|heads/{NAME}/(?:head\.json|{NAME}\.safetensors)"
    rf"|stack/{NAME}\.(?:json|skops|txt)"
    rf"|models/{NAME}/(?:{MODEL_FILE})",
    re.ASCII,
)
TEXT = 1 << 24  # bytes that bundle.json, pipeline.yaml and card.md may have
BLOCK = 1 << 20
NO_PICKLE = re.compile(rb"\x80|PK")  # how what torch.save wrote begins; CTranslate2 never does
UTF8 = 0x800  # the one flag of a zip that a bundle's members may have
AGAIN = "do not use the file, get it again"


class Member(Section):
    """Say what one member of the zip must be."""

    sha256: str
    size: int


class Feature(Section):
    """Say what a feature is made by; `weights` is the digest that the model must have."""

    kind: str
    model: str | None = None
    weights: str | None = None
    licence: str
    challenge: bool | None = None  # whether the Interspeech 2025 challenge allows it, where known
    embedded: str | None = Field(default=None, pattern=rf"^models/{NAME}$")


class About(Section):
    """Hold bundle.json; `stack` is its model, None where one head is asked."""

    format: str
    made: str
    ser: str
    heads: tuple[str, ...]
    stack: str | None
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    features: dict[str, Feature]
    members: dict[str, Member]


@dataclass(frozen=True)
class Bundle:
    """Hold a bundle that was checked and unpacked to `folder`, which is laid out as a run's."""

    path: Path
    folder: Path
    about: About

    def pipeline(self) -> Pipeline:
        """Read its pipeline.yaml; raises `UserError` where that would run, fetch or tell more."""
        text = (self.folder / PIPELINE).read_text(encoding="utf-8")
        _check_yaml(self.path, text)
        pipeline = Pipeline.load(self.folder / PIPELINE)
        for name, options in pipeline.features.items():
            if options.remote:
                raise _refused(self.path, PIPELINE, "asks a server, and a bundle may send nothing")
            told = self.about.features.get(name)
            if told is None or told.model != getattr(options, "model", None):
                raise _refused(self.path, PIPELINE, f"features.{name} is not what {ABOUT} says")
        return replace(pipeline, finetune={})  # its models are features, nothing here is of others

    def weights(self, model: str) -> Weights:
        """Find a model's weights, here or on this machine; raises `UserError` for other weights."""
        told = next(each for each in self.about.features.values() if each.model == model)
        if told.embedded is not None:
            return Weights(self.folder / told.embedded, str(told.weights))
        found = resolve(model)
        if found.digest != told.weights:
            raise UserError(
                f"{self.path}: it was made with {model} of {_short(str(told.weights))}, and here "
                f"that is {_short(found.digest)} in {found.folder}; get those weights, or a bundle "
                "packed with --embed."
            )
        return found


def open_bundle(path: str | Path) -> Bundle:
    """Check a bundle and unpack it to the user's cache, or find it there.

    Raises `UserError` for a file that is no bundle, is damaged, or holds what no bundle has.
    """
    path = Path(path)
    with path.open("rb") as file:
        folder = _cache() / digest_of(file)
        if not _whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _unpack(file, path, folder)
    return Bundle(path, folder, _parse(path, (folder / ABOUT).read_bytes()))


def digest_of(file: IO[bytes]) -> str:
    """Return the sha256 of an open file, and go back to its beginning."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return digest


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if given else Path.home() / ".cache") / "ser" / "bundles"


def _whole(folder: Path) -> bool:
    """Tell whether an unpacked folder has every file, by their sizes."""
    if not (folder / ABOUT).is_file():
        return False
    try:
        about = _parse(folder, (folder / ABOUT).read_bytes())
        sizes = {name: (folder / name).stat().st_size for name in about.members}
    except (OSError, UserError):
        return False
    return sizes == {name: member.size for name, member in about.members.items()}


def _unpack(file: IO[bytes], path: Path, folder: Path) -> None:
    """Unpack beside and rename: the folder is there whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        _extract(file, path, part)
        try:
            part.rename(folder)
        except OSError:
            if not _whole(folder):  # else another process was first
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _extract(file: IO[bytes], path: Path, folder: Path) -> About:
    """Check everything and write it into a folder that nobody reads yet."""
    try:
        with ZipFile(file) as archive:
            members = _listed(archive.infolist(), path)
            with archive.open(members[ABOUT]) as member:
                text = member.read(TEXT)
            about = _parse(path, text)
            _compare(path, members, about)
            (folder / ABOUT).write_bytes(text)
            for name, told in about.members.items():
                with archive.open(members[name]) as source:
                    if _copied(source, folder / name) != told.sha256:
                        raise _refused(path, name, "was changed, its sha256 is not the one packed")
    except (BadZipFile, EOFError, NotImplementedError, ValueError, OSError, struct.error) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # the disk's; a place before the beginning is the archive's
        raise UserError(
            f"{path}: it is no bundle, or was cut short or changed ({error}); get it again, or "
            "give the folder of a run."
        ) from error
    _check_models(path, folder, about)
    return about


def _listed(infos: Iterable[ZipInfo], path: Path) -> dict[str, ZipInfo]:
    """Return the members by name; refuse what a bundle never has."""
    found: dict[str, ZipInfo] = {}
    seen: set[str] = set()
    for info in infos:
        name, mode = info.orig_filename, info.external_attr >> 16
        if name.casefold() in seen:  # on some systems these are one file
            raise _refused(path, name, "stands twice")
        if not MEMBER.fullmatch(name):
            raise _refused(path, name, "is nothing that a bundle has")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _refused(path, name, "is a link, or no plain file")
        if info.compress_type != ZIP_STORED or info.compress_size != info.file_size:
            raise _refused(path, name, "is compressed, and the members of a bundle never are")
        if info.flag_bits & ~UTF8:
            raise _refused(path, name, "is encrypted or streamed")
        if name in (ABOUT, PIPELINE, CARD) and info.file_size > TEXT:
            raise _refused(path, name, f"is too large ({info.file_size} bytes)")
        found[name] = info
        seen.add(name.casefold())
    if sum(info.file_size for info in found.values()) > path.stat().st_size:
        raise UserError(f"{path}: its members overlap; {AGAIN}.")
    for name in (ABOUT, PIPELINE, CARD):
        if name not in found:
            raise _refused(path, name, "is not there")
    return found


def _parse(path: Path, text: bytes) -> About:
    try:
        said = json.loads(text)
        if said["format"] != FORMAT:
            raise UserError(
                f"{path}: its format is {said['format']!r} and this ser reads {FORMAT!r}; get the "
                "ser that packed it, or have it packed again."
            )
        return About.model_validate(said)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = "not valid" if isinstance(error, ValidationError) else f"not readable ({error!r})"
        raise _refused(path, ABOUT, f"is {what}") from error


def _compare(path: Path, members: dict[str, ZipInfo], about: About) -> None:
    """Require just the members that bundle.json names, of just their sizes."""
    for name in members:
        if name not in about.members and name != ABOUT:
            raise _refused(path, name, f"is not in {ABOUT}")
    for name, told in about.members.items():
        if name not in members or name == ABOUT:
            raise _refused(path, name, f"is named in {ABOUT} and not there")
        if members[name].file_size != told.size:
            size = members[name].file_size
            raise _refused(path, name, f"has {size} bytes where {ABOUT} says {told.size}")


def _copied(source: IO[bytes], target: Path) -> str:
    """Write a member; return its sha256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    total = hashlib.sha256()
    with target.open("xb") as file:
        while block := source.read(BLOCK):
            total.update(block)
            file.write(block)
    return total.hexdigest()


def _check_yaml(path: Path, text: str) -> None:
    """Refuse what could run code, read this machine's variables, or grow without end."""
    try:
        aliases = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        said: Any = None if aliases else yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise _refused(path, PIPELINE, "is not valid YAML") from error
    if aliases or "${" in text:
        raise _refused(path, PIPELINE, "has aliases or variables")
    if isinstance(said, dict) and "plugins" in said:
        raise _refused(path, PIPELINE, "names plugins, and a bundle may not run code")


def _check_models(path: Path, folder: Path, about: About) -> None:
    """Refuse an embedded model with code of its own, or with pickled weights."""
    for name in about.members:
        if problem := model_problem(folder / name) if name.startswith("models/") else None:
            raise _refused(path, name, problem)


def model_problem(file: Path) -> str | None:
    """Say what forbids to embed a file of a model, None for nothing."""
    if file.name == "model.bin":
        with file.open("rb") as opened:
            if NO_PICKLE.match(opened.read(2)):
                return "is pickled, and nothing in a bundle is ever unpickled"
    if file.name.endswith("config.json"):
        try:
            said = json.dumps(json.loads(file.read_bytes()))
        except (ValueError, RecursionError):
            return "is not valid JSON"
        if '"auto_map"' in said:
            return "asks for code of its own (auto_map), and a bundle may not run code"
    return None


def _refused(path: Path, member: str, what: str) -> UserError:
    return UserError(f"{path}: the member {member!r} {what}; {AGAIN}.")


def _short(digest: str) -> str:
    return digest if len(digest) < 20 else f"{digest[:19]}…"
