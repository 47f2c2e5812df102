"""The index of a large cache: written without its frames, and opened in a fresh process."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from bench.cache_sides import BATCH
from bench.processes import in_fresh_process, memory_mb
from bench.report import Row, median_row
from ser.cache.features import FeatureCache
from ser.cache.files import new_shard_name
from ser.corpus import parquet

Feature = tuple[str, Mapping[str, object]]  # its name, and the spec of its fingerprint
ANY: Feature = ("x", {})
FIRST_LENGTHS = "open 1,000,000, first lengths"
INDEX_RSS = "open 1,000,000, peak RSS"
INDEX_UTTERANCES, INDEX_SHARDS, INDEX_ROUNDS = 1_000_000, 1_500, 3


def opened_index(root: Path) -> list[Row]:
    """Open an index of a million utterances; without frames, which are not read."""
    path = write_index(root, INDEX_UTTERANCES, INDEX_SHARDS)
    numbers = np.random.default_rng(2).integers(0, INDEX_UTTERANCES, BATCH)
    rounds = [in_fresh_process(_look_up, path, numbers) for _ in range(INDEX_ROUNDS)]
    seconds, peaks, imported = zip(*rounds, strict=True)
    return [
        median_row(FIRST_LENGTHS, seconds, "CPU s"),
        median_row(INDEX_RSS, peaks, "MB"),
        median_row("of that the imports", imported, "MB"),
    ]


def _look_up(path: Path, numbers: np.ndarray) -> tuple[float, float, float]:
    """Look lengths up; return CPU seconds, and MB of memory at the peak and before."""
    imported, start = memory_mb("VmHWM"), time.process_time()
    lengths = FeatureCache(path).lengths([indexed_name(i) for i in numbers.tolist()])
    seconds = time.process_time() - start
    if lengths.tolist() != [indexed_length(i) for i in numbers.tolist()]:
        raise AssertionError("the index has other lengths than were written")
    return seconds, memory_mb("VmHWM"), imported


def indexed_name(i: int) -> str:
    return f"MSP-PODCAST_{i // 1000:04d}_{i % 1000:04d}"


def indexed_length(i: int) -> int:
    return 100 + i * 37 % 900


def write_index(
    root: Path, utterances: int, shards: int, feature: Feature = ANY, stat: np.ndarray | None = None
) -> Path:
    """Write a cache's index and the folders of its shards, without a frame; return the cache.

    `feature` is its name and spec, `stat` the hashes of its audio, random where None. Reading any
    frame fails, and so does rebuilding the index from the shards.
    """
    cache = FeatureCache.create(root, *feature, {"item_shape": [1_280], "frame_rate": 50.0})
    names = sorted(new_shard_name() for _ in range(shards))
    for name in names:
        group = cache.path / "data.zarr" / name / "zarr.json"
        group.parent.mkdir(parents=True)
        group.write_text('{"zarr_format": 3, "node_type": "group"}', encoding="utf-8")
    rng, number = np.random.default_rng(3), np.arange(utterances)
    shard = number * shards // utterances
    first = np.searchsorted(shard, np.arange(shards))
    lengths = indexed_length(number)  # type: ignore[arg-type]  # it is arithmetic
    rows = np.cumsum(lengths) - lengths
    columns = {
        "utterance": [indexed_name(i) for i in range(utterances)],
        "position": number - first[shard],
        "row": rows - rows[first][shard],
        "length": lengths,
        "crc32c": rng.integers(0, 2**32, utterances, dtype=np.uint32),
        "stat": rng.integers(0, 2**64, utterances, dtype=np.uint64) if stat is None else stat,
        "source": rng.integers(0, 2**64, utterances, dtype=np.uint64),
        "shard": pl.Series(names).gather(shard),
        "created": 1_750_000_000_000_000_000 + shard * 20_000_000_000,
    }
    index = pl.DataFrame(columns).cast(FeatureCache.INDEX).select(FeatureCache.INDEX.names())
    (cache.path / "index.parquet").write_bytes(parquet.encode(index))
    return cache.path
