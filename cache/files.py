"""What the files of a cache share: fingerprints, names of shards, errors of reading."""

import errno
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ser.corpus.atomic import LEFT_BY_OTHER_MACHINE, host, is_running, remove
from ser.corpus.errors import UserError

LOST = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EIO)
OPEN_FILES = "raise the limit of open files (`ulimit -n`)"
AGAIN = "run `ser cache verify --repair`, then `ser extract --all`"


def fingerprint(spec: Mapping[str, object]) -> str:
    """Hash a mapping of plain values: 16 hexadecimal characters.

    The order of keys does not matter. Values must be JSON (paths as text), so that the
    same mapping gives the same name on every machine and version of Python.
    """
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash64(data: bytes) -> int:
    """Hash bytes to 64 bits, as a row's `stat` and `source`."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def remove_abandoned(staging: Path, keep: str) -> None:
    """Delete the shards of dead writers in .staging, except those whose names start with `keep`.

    A writer of another machine is dead when it has written nothing for a day. On a read-only disk
    they stay.
    """
    with suppress(OSError):
        for shard in staging.glob("[!.]*-*-*"):
            if not shard.name.startswith(keep) and _is_abandoned(shard):
                remove(shard)


def _is_abandoned(shard: Path) -> bool:
    if shard.name.startswith(f"{host()}-"):
        return not alive(shard.name)
    newest = max((p.stat().st_mtime for p in (shard, *shard.rglob("*"))), default=0.0)
    return time.time() - newest > LEFT_BY_OTHER_MACHINE


class DeniedError(UserError):
    """The system denies access to a file that may be undamaged: permission, too many open files."""


@contextmanager
def readable(path: Path, remedy: str) -> Iterator[None]:
    """Raise the `OSError` of reading a file as a sentence that names the file.

    Raises `UserError` with this remedy where the file is lost (absent, no file, a failing disk),
    else `DeniedError` with one of its own.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in LOST:
            raise UserError(f"{path}: not readable ({reason}); {remedy}.") from error
        remedy = (
            OPEN_FILES if error.errno in (errno.EMFILE, errno.ENFILE) else "correct its permissions"
        )
        raise DeniedError(f"{path}: not readable ({reason}); {remedy}.") from error


def new_shard_name() -> str:
    """Return a name that no other writer on any machine uses: host-pid-random."""
    return f"{host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def alive(shard: str) -> bool:
    """Return whether the process of this machine in a shard's name is still running."""
    pid = shard.removeprefix(f"{host()}-").split("-")[0]
    return pid.isdigit() and is_running(int(pid))
