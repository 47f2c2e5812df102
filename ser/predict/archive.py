"""The zip of a bundle, checked as it is unpacked.

What no bundle has is refused: other names, links, compression, members that appear twice or
overlap. Members are unpacked into a temporary folder, hashed on the way, and the folder is renamed
once all are as bundle.json records them.
"""

import errno
import hashlib
import re
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from ser.cache.swap import staged_folder
from ser.corpus.errors import UserError
from ser.predict.members import card_problem, model_problem, tensors_problem
from ser.predict.record import AGAIN, BUNDLE_JSON, NAME, BundleRecord, Member, parse_record, refused

PIPELINE, CARD = "pipeline.yaml", "card.md"
MODEL_FILE = rf"(?!pytorch_|adapter_){NAME}\.(?:safetensors|json|txt|model)|model\.bin"
MEMBER = re.compile(
    rf"{re.escape(BUNDLE_JSON)}|{re.escape(PIPELINE)}|{re.escape(CARD)}"
    rf"|heads/{NAME}/(?:head\.json|{NAME}\.safetensors)"
    rf"|stack/{NAME}\.(?:json|npz|skops|txt)"
    rf"|models/{NAME}/(?:{MODEL_FILE})",
    re.ASCII,
)
TEXT = 1 << 20  # bytes that a small text may have
TEXTS = dict.fromkeys((PIPELINE, CARD, "head.json", "stack.json"), TEXT) | {BUNDLE_JSON: 1 << 22}
MOST_MEMBERS = 20_000
BLOCK = 1 << 20
UTF8 = 0x800  # the only flag that a member of a bundle may have


def digest_of(file: IO[bytes]) -> str:
    """Return the sha256 of an open file, and go back to its start."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return digest


def is_unpacked(folder: Path) -> bool:
    """Return whether a folder holds every file as it was packed, by their hashes."""
    if not (folder / BUNDLE_JSON).is_file():
        return False
    try:
        record = parse_record(folder, (folder / BUNDLE_JSON).read_bytes())
        return all(_same(folder / name, member) for name, member in record.members.items())
    except (OSError, UserError):
        return False


def _same(file: Path, member: Member) -> bool:
    if file.stat().st_size != member.size:
        return False
    with file.open("rb") as opened:
        return digest_of(opened) == member.sha256


def unpack(file: IO[bytes], path: Path, folder: Path) -> None:
    """Unpack into a temporary folder and rename it: `folder` is whole or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staged_folder(folder) as part:
        _extract(file, path, part)


def _extract(file: IO[bytes], path: Path, folder: Path) -> None:
    """Check everything and write it to a folder that nobody reads yet."""
    try:
        with ZipFile(file) as archive:
            members = _listed(archive.infolist(), path)
            with archive.open(members[BUNDLE_JSON]) as member:
                text = member.read(TEXTS[BUNDLE_JSON])
            record = parse_record(path, text)
            _compare(path, members, record)
            (folder / BUNDLE_JSON).write_bytes(text)
            for name, expected in record.members.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(members[name]) as source, (folder / name).open("xb") as target:
                    if copied(source, target) != expected.sha256:
                        raise refused(path, name, "was changed: its sha256 is not that of packing")
    except (BadZipFile, EOFError, NotImplementedError, ValueError, OSError, struct.error) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # of the disk; EINVAL is an offset in the archive before its start
        raise UserError(
            f"{path}: it is not a bundle, or is damaged ({error}); get a new copy, or give the "
            "folder of a run."
        ) from error
    _check_contents(path, folder, record)


def _listed(infos: Iterable[ZipInfo], path: Path) -> dict[str, ZipInfo]:
    """Return the members by name; refuse what a bundle never has."""
    members: dict[str, ZipInfo] = {}
    seen: set[str] = set()
    for info in infos:
        if len(seen) >= MOST_MEMBERS:
            raise UserError(f"{path}: it has more than {MOST_MEMBERS} members; {AGAIN}.")
        name, mode = info.orig_filename, info.external_attr >> 16
        if name.casefold() in seen:  # on some systems these are one file
            raise refused(path, name, "appears twice")
        if not MEMBER.fullmatch(name):
            raise refused(path, name, "does not belong in a bundle")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise refused(path, name, "is a link or special file")
        if info.compress_type != ZIP_STORED or info.compress_size != info.file_size:
            raise refused(path, name, "is compressed, which members of a bundle never are")
        if info.flag_bits & ~UTF8:
            raise refused(path, name, "is encrypted or streamed")
        text = TEXTS.get(name.rpartition("/")[2]) if not name.startswith("models/") else None
        if text is not None and info.file_size > text:
            raise refused(path, name, f"is too large ({info.file_size} bytes)")
        members[name] = info
        seen.add(name.casefold())
    if sum(info.file_size for info in members.values()) > path.stat().st_size:
        raise UserError(f"{path}: its members overlap; {AGAIN}.")
    for name in (BUNDLE_JSON, PIPELINE, CARD):
        if name not in members:
            raise refused(path, name, "is missing")
    return members


def _compare(path: Path, members: dict[str, ZipInfo], record: BundleRecord) -> None:
    """Require exactly the members that bundle.json lists, with their sizes."""
    for name in members:
        if name not in record.members and name != BUNDLE_JSON:
            raise refused(path, name, f"is not in {BUNDLE_JSON}")
    for name, expected in record.members.items():
        if name not in members or name == BUNDLE_JSON:
            raise refused(path, name, f"is listed in {BUNDLE_JSON} but missing")
        if members[name].file_size != expected.size:
            size = members[name].file_size
            raise refused(path, name, f"has {size} bytes but {BUNDLE_JSON} records {expected.size}")


def copied(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy a file to its end and return its sha256."""
    total = hashlib.sha256()
    while block := source.read(BLOCK):
        total.update(block)
        target.write(block)
    return total.hexdigest()


def _check_contents(path: Path, folder: Path, record: BundleRecord) -> None:
    """Refuse models with code of their own, pickled weights or impossible sizes, and a bad card."""
    if problem := card_problem((folder / CARD).read_bytes()):
        raise refused(path, CARD, problem)
    for name in record.members:
        if name.startswith("models/"):
            problem = model_problem(folder / name)
        elif name.endswith(".safetensors"):
            problem = tensors_problem(folder / name)
        else:
            problem = None
        if problem:
            raise refused(path, name, problem)
