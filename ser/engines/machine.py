"""Errors of the operating system in one sentence: a full or read-only disk, a permission.

Libraries wrap such errors in exceptions of their own (polars, HDF5, safetensors); the number of the
error is then read from the message.
"""

import errno
import os
import re
from pathlib import Path

NUMBER = re.compile(r"(?:os error |errno = |\[Errno |code: )(\d+)")
NAMED = re.compile(r"name = '([^']+)'")
AGAIN = "finished work is kept: {} and run the same command again."
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


def machine_problem(error: BaseException) -> str | None:
    """Return the sentence for an error of the operating system; None for any other error."""
    number = _number(error)
    if number is None:
        return None
    if number in FULL:
        return f"{_place(error)}{FULL[number]}; {AGAIN.format('make room')}"
    again = AGAIN.format(REMEDIES.get(number, "correct that"))
    return f"{_place(error)}{os.strerror(number)}; {again}"


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
            return f"{path.parent if path.name.startswith('.') else path}: "
    match = NAMED.search(str(error))
    return f"{match[1]}: " if match else ""
