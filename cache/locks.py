"""One writer for each folder of a run: a kernel lock, and its owner.

The lock file has the owner as JSON: process, machine, since when. The kernel frees the lock when
the process dies, however it dies, so a dead owner never blocks; this also holds between machines
on a file system with such locks (NFS has them). On one without (`ENOSYS`, as Lustre mounted without
`flock`) nothing is locked.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from ser.corpus.atomic import host
from ser.corpus.errors import BusyError

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Hold the lock file `path`; `work` is what is being done, as "head 'audio' is being trained".

    Raises `BusyError`, which names the owner, when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(path, work)
    try:
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        owner = {"process": os.getpid(), "machine": host(), "since": since}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(owner).encode(), 0)
        yield
    finally:
        with suppress(OSError):  # unlinked first: no process can lock what is about to be deleted
            path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path, work: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return handle
            owner = _owner(handle)
            os.close(handle)
            if error.errno not in HELD:
                raise
            raise BusyError(
                f"{work} by {owner}; wait until it has finished, or stop it, and run the command "
                "again."
            ) from error
        if _is_at(path, handle):
            return handle
        os.close(handle)  # its last owner unlinked it between our open and our lock


def _is_at(path: Path, handle: int) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(handle))


def _owner(handle: int) -> str:
    for _ in range(10):  # an owner that has just locked has not written yet
        with suppress(ValueError, KeyError):
            owner = json.loads(os.pread(handle, 1000, 0))
            machine, is_local = owner["machine"], owner["machine"] == host()
            place = f"this machine ({machine})" if is_local else machine
            return f"process {owner['process']} on {place} since {owner['since']}"
        time.sleep(0.01)
    return "another process"
