"""Replacing a folder by another one in one step."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ser.corpus.atomic import remove, remove_leftovers, sync, temporary_path

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder `new` in the place of `target`, and delete what was there.

    A process that is killed leaves the old folder or the new one at `target`. Where the file system
    cannot exchange two names (NFS, macOS), it may leave none for a moment, and `recover_folder`
    brings the old one back.
    """
    for file in new.rglob("*"):
        if file.is_file():
            sync(file)
    old = _old(target)
    remove(old)
    if not os.path.lexists(target):
        new.rename(target)
    elif exchange(new, target):
        old = new
    else:
        target.rename(old)
        new.rename(target)
    sync(target.parent)
    remove(old)


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target` that replaces it at the end, as `staged` does a file.

    An error leaves what was there. What a killed process left of this folder is deleted first.
    """
    recover_folder(target)
    remove_leftovers(target.parent, target.name)
    part = temporary_path(target)
    part.mkdir()
    try:
        yield part
        for folder, _, _ in os.walk(part):
            sync(Path(folder))
        replace_folder(part, target)
    except BaseException:
        remove(part)
        raise


def recover_folder(target: Path) -> None:
    """Bring back the folder that a `replace_folder` which was killed had set aside.

    Does nothing where nothing was set aside, and on a read-only disk.
    """
    old = _old(target)
    if old.exists():
        with suppress(OSError):
            if target.exists():
                remove(old)
            else:
                old.rename(target)


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two files or folders; return False where the system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if call(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(second))


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")
