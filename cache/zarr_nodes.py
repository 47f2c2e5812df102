"""The arrays and groups of a Zarr store, found by its files; nothing of it is decoded here.

zarr-python lists a store as well, but one damaged `zarr.json` then hides all others.
"""

import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ser.cache.json_file import LARGEST, parse_object
from ser.corpus.errors import UserError

if TYPE_CHECKING:
    from zarr.abc.store import Store

METADATA = ("zarr.json", ".zarray", ".zgroup")  # the first that is there counts
READ_BY_ZARR = {*METADATA, ".zattrs"}  # in the folder of an array, when zarr-python opens it


@dataclass
class Node:
    """An array or a group of a store: its metadata, and the sizes and times of its files."""

    is_array: bool
    metadata: dict[str, object]
    problem: str = ""  # why the metadata cannot be used
    stats: list[tuple[object, ...]] = field(default_factory=list)


def is_zarr(source: Path) -> bool:
    """Return whether a path is a Zarr store, or a zip file that may hold one."""
    if source.is_dir():
        return any((source / name).exists() for name in METADATA)
    return source.suffix == ".zip" and zipfile.is_zipfile(source)


def open_store(source: Path) -> tuple["Store", dict[str, Node]]:
    """Open a store in a folder or zip file; return it with its nodes by path, "" for the root.

    Raises `UserError` for a folder with a link that leads out of it, with a pipe or a device, and
    for a damaged zip file.
    """
    from zarr.storage import LocalStore, ZipStore

    if source.is_dir():
        files, links = _files(source)
        nodes = _nodes(files, lambda name: (source / name).open("rb"))
        for path in links:
            _mark_linked(nodes, path)
        return LocalStore(source, read_only=True), nodes
    try:
        with zipfile.ZipFile(source) as archive:
            entries = {e.filename: (e.file_size, e.CRC) for e in archive.infolist()}
            nodes = _nodes(entries, archive.open)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{source}: not readable ({error}); write it again.") from error
    return ZipStore(source, mode="r"), nodes


def _files(source: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Return the files of a folder with size and time of change, and the links to folders in it.

    zarr-python follows such links, and what is behind them is not listed. Raises `UserError` for a
    link that leads out of the folder, and for a pipe or device.
    """
    files: dict[str, tuple[int, int]] = {}
    links, root = list[str](), source.resolve()
    for folder, subfolders, names in os.walk(source):
        for path in (Path(folder, name) for name in (*subfolders, *names)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UserError(f"{path}: this link leads out of the store; replace it by a copy.")
            status = path.stat() if path.exists() else path.lstat()
            name = path.relative_to(source).as_posix()
            if stat.S_ISREG(status.st_mode):
                files[name] = status.st_size, status.st_mtime_ns
            elif not stat.S_ISDIR(status.st_mode):
                raise UserError(f"{path}: neither a file nor a folder; delete it.")
            elif path.is_symlink():
                links.append(name)
    return files, links


def _mark_linked(nodes: dict[str, Node], path: str) -> None:
    """Make a link to a folder a problem of the array it is in, else of an array of its name."""
    problem = f"{path} is a link to a folder; replace it by a copy"
    parents = path.split("/")
    for depth in range(len(parents)):
        node = nodes.get("/".join(parents[:depth]))
        if node is not None and node.is_array:
            node.problem = node.problem or problem
            return
    nodes[path] = Node(True, {}, problem)


def _nodes(
    files: Mapping[str, tuple[int, int]], open_file: Callable[[str], IO[bytes]]
) -> dict[str, Node]:
    """Return the arrays and groups by path; "" is the root."""
    nodes: dict[str, Node] = {}
    for kind in METADATA:
        for name in files:
            folder, _, base = name.rpartition("/")
            if base == kind and folder not in nodes:
                nodes[folder] = _node(name, open_file)
    for name, status in sorted(files.items()):
        folder = name.rpartition("/")[0]
        while folder and folder not in nodes:
            folder = folder.rpartition("/")[0]
        if folder in nodes:
            nodes[folder].stats.append((name, *status))
        if name.rpartition("/")[2] in READ_BY_ZARR and status[0] > LARGEST and folder in nodes:
            node = nodes[folder]
            node.problem = node.problem or f"{name} is larger than {LARGEST:,} bytes"
    return nodes


def _node(name: str, open_file: Callable[[str], IO[bytes]]) -> Node:
    is_group = name.endswith(".zgroup")
    try:
        with open_file(name) as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UserError(f"{name} is larger than {LARGEST:,} bytes")
        metadata = parse_object(Path(name), data, "write it again")
    except Exception as error:  # of the zip file, too
        return Node(not is_group, {}, str(error).rstrip("."))
    return Node(not is_group and metadata.get("node_type") != "group", metadata)
