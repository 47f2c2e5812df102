"""Writing files atomically: after a crash a file is the old one or the new one, whole."""

import errno
import glob
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
LEFT_BY_OLDER_VERSION = 3600.0  # seconds
LEFT_BY_OTHER_MACHINE = 86400.0


def write_durably(path: Path, content: str | bytes) -> None:
    """Write a small file; after a power cut it is the old one or the new one, whole.

    A file that a full disk cut short is deleted.
    """
    with staged(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_if_changed(path: Path, content: str | bytes) -> bool:
    """Write a file unless it has this content; return whether it was written."""
    data = content.encode() if isinstance(content, str) else content
    if path.is_file() and path.read_bytes() == data:
        return False
    write_durably(path, data)
    return True


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there replaces it at the end.

    The file is whole or absent, also after a power cut, and has the mode of the umask. After an
    error the old file is as it was. What a killed process left of this file is deleted first.
    """
    remove_leftovers(path.parent, path.name)
    part = temporary_path(path)
    try:
        yield part
        sync(part)
        if path.is_dir():
            clear(path)  # only an empty folder is replaced
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            part.unlink(missing_ok=True)
        raise
    sync(path.parent)


def temporary_path(path: Path) -> Path:
    """Return a path beside `path` for what will replace it.

    Its name has the machine and the process that write there.
    """
    written_by = f"{host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{path.name[:60]}.{written_by}.part")


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Delete temporary files and folders that dead processes left; those of live ones stay.

    With `name` only those of this file, in a folder that has others which are not ours. A file of
    another machine is one of a dead process when it is a day old, and one of an older version of
    ser, whose name has no process, when it is an hour old. On a read-only disk they stay.
    """
    pattern = ".*.part" if name is None else f".{glob.escape(name[:60])}.*.part"
    for part in folder.glob(pattern):
        with suppress(OSError):
            if _is_leftover(part):
                remove(part)


def _is_leftover(part: Path) -> bool:
    written_by = re.search(r"\.([^-]+)-(\d+)-[0-9a-f]{8}\.part$", part.name)
    age = time.time() - part.stat().st_mtime
    if written_by is None:
        return age > LEFT_BY_OLDER_VERSION
    if not written_by[1].endswith(host()):
        return age > LEFT_BY_OTHER_MACHINE
    return not is_running(int(written_by[2]))


def sync(path: Path) -> None:
    """Make the content of a file, or the renames in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make a folder and everything in it survive a power cut.

    Files that are written first and synced together cost one commit of the file system's journal;
    each synced as it is written costs one of its own.
    """
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(path, name))
        sync(Path(path))


def host() -> str:
    """Return the name of this machine as shard names have it."""
    return socket.gethostname().replace("-", "_").replace("/", "_") or "host"


def is_running(pid: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's, and alive
        return True
    return True


def keep_umask(folder: Path) -> None:
    """Give the files of a folder the modes of the umask; some libraries write private ones."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def file_in_place(folder: Path) -> Path | None:
    """Return the file that is where a folder, or one above it, should be; None without one."""
    present = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return None if present.is_dir() else present


def clear(path: Path) -> None:
    """Delete a file or an empty folder, if it exists; raises `OSError` for a full folder."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists() or path.is_symlink():  # a read-only disk refuses also to delete nothing
        path.unlink(missing_ok=True)
