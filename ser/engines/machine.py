"""Errors of the operating system in one sentence: a full or read-only disk, a permission.

Libraries wrap such errors in exceptions of their own (polars, HDF5, safetensors); the number of the
error is then read from the message.
"""

import errno
import os
import re
from pathlib import Path

from ser.corpus.errors import StoppedError, UserError, shown

LONGEST_PATH = 1000  # characters of a message
NUMBER = re.compile(r"(?:os error |errno = |\[Errno |code: )(\d+)")
NAMED = re.compile(r"name = '([^']+)'")
WRAPPERS = {"polars", "h5py", "safetensors", "safetensors_rust", "zarr", "pyarrow", "lightgbm"}
FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "your quota of the disk is used up"}
REMEDIES = {
    errno.EACCES: "get the permission, or use another folder,",
    errno.EPERM: "get the permission, or use another folder,",
    errno.EROFS: "make it writable, or use another folder,",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "move the file that is in the place of a folder",
    errno.EISDIR: "move the folder that is in the place of a file",
    errno.EEXIST: "move what is in its place",
    errno.ENOTEMPTY: "move the folder that is in its place",
    errno.ELOOP: "correct the links, which lead to one another,",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "close other programs",
    errno.EIO: "check the disk, which cannot be read or written,",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`)",
}
MISTAKES = {  # in the call or a file; the others are the machine's
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    errno.ELOOP,
}


def machine_problem(error: BaseException, *, kept: bool) -> UserError | None:
    """Return an error of the operating system as one sentence; None for any other error.

    `kept`: the same command resumes, with the work that is finished.
    """
    number = _number(error)
    if number is None:
        return None
    problem = FULL.get(number) or os.strerror(number)
    remedy = "make room" if number in FULL else REMEDIES.get(number, "correct that")
    again = f"{'finished work is kept: ' if kept else ''}{remedy} and run the same command again."
    kind = UserError if number in MISTAKES else StoppedError
    return kind(f"{_place(error)}{problem}; {again}")


def _number(error: BaseException) -> int | None:
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in errno.errorcode:
        return number
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in WRAPPERS:
        text = str(error)
        match = NUMBER.search(text)
        if match and int(match[1]) in errno.errorcode:
            return int(match[1])
        return next((n for n in FULL if os.strerror(n) in text), None)
    return None


def _place(error: BaseException) -> str:
    names = [getattr(error, key, None) for key in ("filename2", "filename")]
    for name in names:
        if isinstance(name, str | bytes | os.PathLike):
            path = Path(os.fsdecode(name))
            # a temporary file of ours, in a folder that the user knows
            path = path.parent if path.name.startswith(".") else path
            return f"{shown(str(path), LONGEST_PATH)}: "
    match = NAMED.search(str(error))
    return f"{match[1]}: " if match else ""
