"""Features in a Zarr store of any writer, v2 or v3, in a folder or a zip file, by utterance.

Two layouts are read, also side by side in one store:

- one array an utterance: its id is the path of the array in the store;
- one array for all, in a group with an array of ids and one of lengths, or of offsets, or both:
  utterance i is rows offsets[i] to offsets[i] + lengths[i], or to offsets[i + 1]. Without lengths
  and offsets utterance i is row i of an array (utterances, dim). `ArrayNames` has the names by
  which such a group is known.

Nothing of the store is trusted: see `ser.cache.zarr_store` for what is read, and how. Links that
lead out of the folder are refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ser.cache.arrays import FRAMES, IDS, USUAL_NAMES, Array, ArrayNames, Origin, origin_of
from ser.cache.zarr_nodes import Node, open_store
from ser.cache.zarr_ragged import FORMAT, Ragged, open_node, stat_hash_of
from ser.cache.zarr_store import read
from ser.corpus.errors import UserError, listed

if TYPE_CHECKING:
    from zarr.abc.store import Store

LENGTHS = ("lengths", "length")
OFFSETS = ("offsets", "offset", "rows", "row", "starts", "start")


def arrays_in_zarr(source: Path, names: ArrayNames) -> tuple[dict[str, Array], Origin | None]:
    """Return the arrays by utterance, and the origin of an export of ours.

    Raises `UserError` for a store that cannot be used as a whole.
    """
    if (source.parent / "feature.json").exists():
        raise UserError(
            f"{source.parent}: it is a feature of a cache; copy it with `ser cache merge`."
        )
    store, nodes = open_store(source)
    groups: dict[str, list[str]] = {}
    for path in sorted(path for path, node in nodes.items() if node.is_array):
        groups.setdefault(path.rpartition("/")[0], []).append(path)
    chosen = {group: _chosen(paths, names) for group, paths in groups.items()}
    if names != USUAL_NAMES and not any(chosen.values()):
        paths = [path for paths in groups.values() for path in paths]
        raise UserError(
            f"{source}: no group has arrays of the given names, with ids and with lengths or "
            f"offsets; the arrays are {listed(paths) or 'none'}."
        )
    arrays: dict[str, Array] = {}
    for group, paths in groups.items():
        if ragged := chosen[group]:
            group_arrays = Ragged(source, store, ragged, nodes).arrays()
        else:
            group_arrays = {path: _single(source, store, path, nodes[path]) for path in paths}
        for utterance in sorted(group_arrays.keys() & arrays.keys()):
            raise UserError(f"{source}: utterance '{utterance}' is in two groups; keep one.")
        arrays |= group_arrays
    root = nodes[""].metadata if "" in nodes else {}
    attributes = root.get("attributes")
    try:
        return arrays, origin_of(attributes, FORMAT) if isinstance(attributes, dict) else None
    except ValueError as error:
        raise UserError(f"{source}: not usable ({error}); export it again.") from error


def _chosen(paths: Sequence[str], names: ArrayNames) -> dict[str, str] | None:
    """Return the paths of the frames and ids of a group, and of its lengths and offsets.

    None for a group that has no frames or no ids: it has one array for each utterance.
    """
    usual = {"frames": FRAMES, "lengths": LENGTHS, "offsets": OFFSETS, "ids": IDS}
    path_of = {path.rpartition("/")[2]: path for path in paths}
    chosen: dict[str, str] = {}
    for role, candidates in usual.items():
        override = getattr(names, role)
        name = next((n for n in ([override] if override else candidates) if n in path_of), None)
        if name is not None:
            chosen[role] = path_of[name]
    return chosen if {"frames", "ids"} <= chosen.keys() else None


def _single(source: Path, store: "Store", path: str, node: Node) -> Array:
    def load() -> np.ndarray:
        return read(open_node(store, path, node))

    return Array(source / path, stat_hash_of(node), load)
