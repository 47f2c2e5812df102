"""One flipped bit in every kind of cache file: is it reported, and is a wrong number ever read?

    python -m tests.flips --flips 30

For each kind of file, one random bit is flipped, several times. After each, a new process's view
of the cache is read as training and extraction do (frames, words, failures, shape and rate of a
frame), then `verify` runs. After every second flip the index is deleted, so that it is rebuilt from
the damaged files.

reported  reading raises one sentence
verified  reading gives what was written, since the file is derived or was not needed; `verify`
          finds it, or the index was written again
harmless  reading gives what was written and nothing says so: no byte that anyone uses is damaged
wrong     reading gives something else without a word, or ends in a traceback: must be 0
"""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import Row, arguments, show, temporary_folder

SPEC = {"kind": "made", "weights": "sha256:0"}
OUTCOMES = ("reported", "verified", "harmless", "wrong")
FEATURES = {"half": "float16", "small": "int8"}


@dataclass(frozen=True)
class Flip:
    """One flipped bit, and what came of it; `detail` of a wrong one."""

    kind: str
    outcome: str
    detail: str = ""


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--flips", type=int, default=30, help="of each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    count = min(args.flips, 5) if args.quick else args.flips
    counts: Counter[str] = Counter()
    kinds_seen: set[str] = set()
    wrong: list[str] = []
    with temporary_folder(args) as folder:
        for flip in flips(folder.resolve(), count, random.Random(args.seed)):
            counts[flip.outcome] += 1
            kinds_seen.add(flip.kind)
            if flip.outcome == "wrong":
                wrong.append(f"wrong: {flip.kind}: {flip.detail}")
    rows = [Row(outcome, counts[outcome], "flips") for outcome in OUTCOMES]
    show(args, {f"{len(kinds_seen)} kinds of files": rows}, *wrong)
    return min(len(wrong), 1)


def flips(folder: Path, count: int, rng: random.Random) -> Iterator[Flip]:
    """Flip bits of a new cache in `folder`, `count` of each kind of file; yield each flip."""
    cache, whole = folder / "cache", folder / "whole"
    write(cache)
    expected = read(cache)
    for name, file in kinds(cache):
        data = file.read_bytes()
        for number in range(count):
            shutil.copytree(cache, whole)
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            if number % 2:
                for index in set(cache.glob("*/*/index.parquet")) - {file}:
                    index.unlink()
            try:
                yield Flip(name, *_outcome(cache, expected))
            except Exception as error:
                yield Flip(name, "wrong", repr(error))
            shutil.rmtree(cache)
            whole.rename(cache)


def write(root: Path) -> None:
    """Write two features and words, with failures, each in two shards."""
    from ser.cache.features import FeatureCache
    from ser.cache.transcripts import Transcript, TranscriptCache

    rng = np.random.default_rng(0)
    for name, precision in FEATURES.items():
        cache = FeatureCache.create(root, name, SPEC, {"item_shape": [6], "frame_rate": 50.0})
        for shard in range(2):
            with cache.writer(precision) as writer:  # type: ignore[arg-type]
                for i in range(4):
                    # the last of the first shard is written again in the second: `created` counts
                    frames = rng.standard_normal((rng.integers(3, 30), 6)).astype(np.float32)
                    writer.append(f"u{3 * shard + i}", frames, i + 1, i + 2)
        cache.record({"bad": "not audio"})
    words = TranscriptCache.create(root, "words", SPEC, {})
    with words.writer(part_rows=3) as writing:
        for i in range(6):
            writing.append(f"u{i}", Transcript(f"word {i}", -0.5, 0.25, "en"), 1, i + 1)
    words.record({"bad": "not audio"})


def kinds(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield a file of each kind."""
    for feature, shape in (("half", "half"), ("small", "int8"), ("words", "words")):
        folder = next((root / feature).iterdir())
        seen = set()
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            parts = [part for part in path.relative_to(folder).parts if part != ".staging"]
            if path.name == "failed.lock":
                continue
            if parts[0] in ("data", "data.zarr") and len(parts) > 1 and "-" in parts[1]:
                parts[1] = "*" + Path(parts[1]).suffix
            name = "/".join(parts)
            if name not in seen:
                seen.add(name)
                yield f"{shape}: {name.removeprefix('data.zarr/')}", path


def read(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return everything that training and extraction read of a cache, metadata apart."""
    from ser.cache.features import FeatureCache
    from ser.cache.reader import BatchReader, FeatureInput
    from ser.cache.transcripts import TranscriptCache

    names = [f"u{i}" for i in range(7)]
    content, metadata = dict[str, Any](), dict[str, Any]()
    for feature in FEATURES:
        cache = FeatureCache.open(root, feature)
        frames = {}
        reader = BatchReader({"x": FeatureInput(cache)}, check=True)
        for batch in reader.batches([names[:4], names[4:]]):
            for i, utterance in enumerate(batch.utterances):
                length = int(batch.lengths["x"][i])
                frames[utterance] = batch.frames["x"][i, :length].numpy().tobytes()
        content[feature] = (
            frames,
            sorted(cache.index()["utterance"]),
            cache.snapshot().crc32c[cache.require(names)].tolist(),
            cache.failed()["utterance", "error"].rows(),
            [moment.tolist() for moment in cache.moments(names)],
        )
        metadata[feature] = cache.metadata
    words = TranscriptCache.open(root, "words")
    rows = words.index()["utterance", "text", "avg_logprob", "stat", "source"].sort("utterance")
    content["words"] = rows.rows(), words.failed()["utterance", "error"].rows()
    metadata["words"] = words.metadata
    return content, metadata


def _outcome(root: Path, expected: tuple[dict[str, Any], dict[str, Any]]) -> tuple[str, str]:
    from ser.corpus.errors import UserError

    stale = {p: p.read_bytes() for p in root.glob("*/*/index.parquet")}
    try:
        content, metadata = read(root)
    except UserError:
        return "reported", ""
    # a flip in the name of the checksum leaves an entry of no meaning
    same = all(metadata[name] | entries == metadata[name] for name, entries in expected[1].items())
    if content != expected[0] or not same:
        return "wrong", "something else was read"
    return ("verified", "") if _verify_says(root, stale) else ("harmless", "")


def _verify_says(root: Path, stale: dict[Path, bytes]) -> bool:
    from ser.cache.upkeep import every_folder

    if any(path.read_bytes() != before for path, before in stale.items()):
        return True  # the index was written again
    return any(folder.verify() for folder in every_folder(root))


if __name__ == "__main__":
    raise SystemExit(main())
