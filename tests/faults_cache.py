"""What `tests.faults` kills in a cache: extract, merge, prune, import, exports, verify --repair."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np

from tests.faults import Scenario, State
from tests.faults_runs import ser, write_corpus

PRELOAD = (
    "ser.cache.exchange",
    "ser.cache.upkeep",
    "ser.cache.zarr_export",
    "zarr.codecs",
    "ser.commands.cache",
    "ser.stages.extract",
    "ser.pipeline.file",
)
LEFTOVERS = ("**/.*.part", "**/.staging/*-*-*", "**/.deleted-*")
SPEC = {"kind": "made", "weights": "sha256:0"}
SHARDS, CLIPS = 12, 4  # of each feature of a made cache


def frames_of(seed: int) -> np.ndarray:
    """Return the frames of an utterance."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rng.integers(5, 60), 8)).astype(np.float32)


def make_cache(root: Path, name: str, first: int, shards: int = SHARDS, version: int = 0) -> None:
    """Write a feature of several shards, with a failure; its clips are numbered from `first`."""
    from ser.cache.features import FeatureCache

    spec, about = SPEC | {"version": version}, {"item_shape": [8], "frame_rate": 50.0}
    cache = FeatureCache.create(root, name, spec, about)
    for shard in range(shards):
        with cache.writer() as writer:
            for i in range(first + CLIPS * shard, first + CLIPS * (shard + 1)):
                writer.append(f"u{i}", frames_of(i), 1, i + 1)
    cache.record({f"bad-{first}": "not audio"})


def make_transcripts(root: Path, first: int) -> None:
    """Write the words of 24 utterances, 4 a part."""
    from ser.cache.transcripts import Transcript, TranscriptCache

    cache = TranscriptCache.create(root, "words", SPEC, {})
    with cache.writer(part_rows=4) as writer:
        for i in range(first, first + 24):
            writer.append(f"u{i}", Transcript(f"word {i}", -0.5, 0.25, "en"), 1, i + 1)


def contents(root: Path) -> dict[str, object]:
    """Return the checksum of every utterance with undamaged frames, and all transcripts."""
    from ser.cache.features import FeatureCache
    from ser.cache.upkeep import every_folder
    from ser.corpus.errors import UserError

    state: dict[str, object] = {}
    for folder in every_folder(root):
        key = f"{root.name}/{folder.name}/{folder.fingerprint}"
        index = folder.index()
        for i, utterance in enumerate(index["utterance"]):
            if isinstance(folder, FeatureCache):
                try:
                    folder.frames(utterance, check=True)
                except UserError:
                    continue
                state[f"{key}/{utterance}"] = index["crc32c"][i]
            else:
                state[f"{key}/{utterance}"] = index["text"][i]
        state |= {
            f"{key}/{u} failed": e for u, e in folder.failed()["utterance", "error"].iter_rows()
        }
    return state


def cache_state(folder: Path) -> State:
    """Return what is in the cache of a folder."""
    return contents(folder / "cache")


def before_merge(folder: Path) -> None:
    """Make two caches, of which both hold some of the same utterances."""
    make_cache(folder / "into", "whisper", 0, shards=4)
    make_cache(folder / "source", "whisper", 8)
    make_cache(folder / "source", "prosody", 0, shards=3)
    make_transcripts(folder / "source", 0)


def merge_state(folder: Path) -> State:
    """Return both caches: the utterances, and once all shards are there the bytes of the files."""
    state = contents(folder / "into") | contents(folder / "source")
    stored = ("data.zarr", "data", "index.parquet", "feature.json")
    for root in ("into", "source"):
        for path in sorted((folder / root).rglob("*")):
            parts = path.relative_to(folder / root).parts
            if path.is_file() and len(parts) > 2 and parts[2] in stored:
                state[str(path.relative_to(folder))] = sha256(path.read_bytes()).hexdigest()
    missing = [
        path
        for path in (folder / "source").glob("*/*/data*/*-*")
        if not (folder / "into" / path.relative_to(folder / "source")).exists()
    ]
    if missing:  # the index of the merged cache is then one of several states
        state = {k: v for k, v in state.items() if "into" not in k or "index.parquet" not in k}
    return state


def before_prune(folder: Path) -> None:
    """Extract a corpus, and put beside it three features that no pipeline names."""
    before_extract(folder)
    ser("extract", "--all")(folder)
    for version in range(3):
        make_cache(folder / "cache", "old", 0, version=version)


def prune_state(folder: Path) -> State:
    """Return the extracted feature, and of each of the others whether it is whole or deleted."""
    state = {k: v for k, v in cache_state(folder).items() if "/old/" not in k}
    counts: dict[str, int] = {}
    for name in cache_state(folder):
        _, feature, fingerprint, _ = name.split("/")
        if feature == "old":
            counts[fingerprint] = counts.get(fingerprint, 0) + 1
    whole = sorted(counts.values())
    if set(whole) - {SHARDS * CLIPS + 1}:
        raise AssertionError(f"a feature that is being deleted is seen in part: {whole}")
    return state


def before_import(folder: Path) -> None:
    """Import some arrays, change one of them and add others."""
    arrays = folder / "arrays"
    arrays.mkdir()
    for i in range(20):
        np.save(arrays / f"u{i}.npy", frames_of(i))
    IMPORT(folder)
    for i in range(19, 80):
        np.save(arrays / f"u{i}.npy", frames_of(i + 1000))


def before_export(folder: Path) -> None:
    """Export a cache to HDF5 and Zarr, and add to it."""
    make_cache(folder / "cache", "whisper", 0, shards=3)
    EXPORT(folder)
    EXPORT_ZARR(folder)
    make_cache(folder / "cache", "whisper", 100, shards=20)


def export_state(folder: Path) -> State:
    """Return the bytes of the exported file and of the exported store, and what is cached."""
    store = sha256()
    for file in sorted((folder / "x.zarr").rglob("*")):
        store.update(str(file.relative_to(folder)).encode())
        store.update(file.read_bytes() if file.is_file() else b"")
    exports = {
        "x.h5": sha256((folder / "x.h5").read_bytes()).hexdigest(),
        "x.zarr": store.hexdigest(),
    }
    return dict(cache_state(folder)) | exports


def before_extract(folder: Path) -> None:
    """Extract half of a corpus."""
    import polars as pl

    write_corpus(folder)
    rows = pl.read_csv(folder / "m.csv")
    rows.head(20).write_csv(folder / "half.csv")
    ser("extract", "--all", "--set", "corpus.manifest=half.csv")(folder)


def extract(folder: Path) -> None:
    """Extract the corpus in batches of a few clips, a shard each."""
    from ser.extract.run import extract as run_extraction
    from ser.pipeline.file import Pipeline, read_manifest
    from ser.pipeline.jobs import feature_job

    pipeline = Pipeline.load(folder / "pipeline.yaml", ["heads={}"])
    job = feature_job(pipeline, read_manifest(pipeline), "prosody")
    report = run_extraction(job, "cpu", frame_budget=60, shard_bytes=1)
    if report.failed:
        raise RuntimeError(str(report.failed))


def before_repair(folder: Path) -> None:
    """Flip a bit in two shards, and damage the list of failures."""
    make_cache(folder / "cache", "whisper", 0)
    shards = sorted((folder / "cache").glob("*/*/data.zarr/*-*"))
    lists = sorted((folder / "cache").glob("*/*/failed.parquet"))
    for file in (*(shard / "frames" / "c" / "0" / "0" for shard in shards[:2]), *lists):
        content = bytearray(file.read_bytes())
        content[20] ^= 1
        file.write_bytes(content)


def repair_state(folder: Path) -> State:
    """Return the utterances whose frames are right."""
    from ser.corpus.errors import UserError

    try:
        return cache_state(folder)
    except UserError as error:  # the list of failures is damaged until the repair
        if "failed.parquet" not in str(error):
            raise
    return {}


EXPORT: Callable[[Path], None] = ser("cache", "export", "whisper", "x.h5", "--cache", "cache")
EXPORT_ZARR: Callable[[Path], None] = ser(
    "cache", "export", "whisper", "x.zarr", "--cache", "cache", "--format", "zarr"
)
IMPORT: Callable[[Path], None] = ser(
    "cache", "import", "made", "arrays", "--cache", "cache", "--frame-rate", "50"
)

SCENARIOS = [
    Scenario("extract", before_extract, extract, cache_state, LEFTOVERS),
    Scenario(
        "cache merge", before_merge, ser("cache", "merge", "into", "source"), merge_state, LEFTOVERS
    ),
    Scenario("cache prune", before_prune, ser("cache", "prune", "--yes"), prune_state, LEFTOVERS),
    Scenario("cache import", before_import, IMPORT, cache_state, LEFTOVERS),
    Scenario("cache export", before_export, EXPORT, export_state, LEFTOVERS),
    Scenario("cache export zarr", before_export, EXPORT_ZARR, export_state, LEFTOVERS),
    Scenario(
        "cache verify",
        before_repair,
        ser("cache", "verify", "--repair", "--cache", "cache"),
        repair_state,
        LEFTOVERS,
    ),
]
