"""Checksums of the files of a folder, which a record in that folder keeps.

A checksum is the crc32c of the whole file, 8 hexadecimal characters. It finds damage (a flipped
bit, a file that was cut, emptied or deleted, a folder in its place), not a forgery.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import google_crc32c

from ser.corpus.errors import DamagedError, note_once

BLOCK = 1 << 20


def crc32c_of(path: Path) -> int:
    """Return the crc32c of a file; raises `OSError` where it cannot be read."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            crc = google_crc32c.extend(crc, block)
    return crc


def checksum(path: Path) -> str:
    """Return the checksum of a file; raises `OSError` where it cannot be read."""
    return f"{crc32c_of(path):08x}"


def checksum_of(text: str) -> str:
    """Return the checksum of a text."""
    return f"{google_crc32c.value(text.encode()):08x}"


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the checksum of each named file of a folder."""
    return {name: checksum(folder / name) for name in sorted(names)}


def damage(path: Path, expected: str | None) -> str | None:
    """Return what is wrong with a file, None where nothing is.

    `expected` is its checksum; without one the file only has to exist.
    """
    try:
        if expected is None:
            path.open("rb").close()
            return None
        actual = checksum(path)
    except FileNotFoundError:
        return "it is missing"
    except IsADirectoryError:
        return "it is a folder, not a file"
    except NotADirectoryError:
        return f"{path.parent} is a file, not a folder"
    return None if actual == expected else "it is damaged (its checksum is not the recorded one)"


def require_undamaged(path: Path, expected: str | None, remedy: str) -> None:
    """Raise `DamagedError` when something is wrong with a file; see `damage`."""
    problem = damage(path, expected)
    if problem is not None:
        raise DamagedError(path, problem, remedy)


def is_undamaged(folder: Path, expected: Mapping[str, str | None]) -> bool:
    """Return whether every file that a record has a checksum of exists and is undamaged."""
    return not any(damage(folder / name, crc) for name, crc in expected.items())


def note_unchecked(run: Path) -> None:
    """Warn, once for each run, that its files have no checksums."""
    note_once(
        f"{run}: some files were made by an older version of ser and have no checksums, so damage "
        "to them may go unnoticed."
    )
