"""The feature cache compared with .pt files, HDF5, zarr-python and memcpy.

MSP-Podcast-like lengths (lognormal, mean 5.7 s, 2-20 s, 50 frames/s), batch 64. Every side gives
the same seeded plan of length-bucketed random batches as padded float32, with the same values
(checked first; int8 within 2 %). One thread for every library; "2 workers" and "2 threads" are
the exceptions. The consumer does nothing.

warm     opened once; before each round the side's files are read into the page cache, untimed;
         a side that still read more than 1 % of them from disk is named in the target
cold     before each round the side's files are dropped from the page cache; opening them (and
         starting workers) is timed; the share that was read from disk shows that it was cold
         the limit reads the file of ours from its first byte to its last, and does nothing with it
writing  to fresh files; every side writes to the page cache; the time of ours includes its fsyncs;
         the limits cast and write the same bytes to one file, without names or an index
growth   .pt fp32 (0 workers) and ours, for 1x, 2x and 4x the utterances, warm
index    the first lookup in a cache of a million utterances, in a fresh process
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import cache_sides as sides
from bench.cache_index import FIRST_LENGTHS, INDEX_RSS, opened_index
from bench.cache_sides import Corpus, Reader
from bench.report import (
    Row,
    Side,
    Target,
    arguments,
    compare,
    disk_bytes,
    drop,
    fresh,
    repeated,
    show,
    temporary_folder,
    times_as_fast,
    times_the_cpu,
    use_one_thread,
    warm_up,
)

PT = ".pt fp32, 0 workers"
ZARR = "zarr-python, our store"
ONE = "ours fp16, 1 thread"
OURS = "ours fp16, 2 threads"
CHECKED = "the same, crc32c compared"
MEMCPY = "limit: memcpy"
CAST = "limit: cast copy"
WRITE_PT = "write .pt fp32"
WRITE_OURS = "write ours fp16"
WRITE_BARE = "limit: cast, write()"
WRITE_GUARDED = "limit: and check, crc32c, fsync"
IN_ORDER = "limit: read() in order"
MOST_READ, LEAST_READ = "greatest share of files read", "least share of files read"


@dataclass(frozen=True)
class Size:
    dim: int
    read: int  # utterances
    write: int
    grow: int  # at 1x
    rounds: int


QUICK = Size(dim=384, read=384, write=384, grow=128, rounds=3)
FULL = Size(dim=1_280, read=2_048, write=768, grow=768, rounds=5)


def main() -> None:
    use_one_thread()
    args = arguments(__doc__ or "").parse_args()
    size = QUICK if args.quick else FULL
    with temporary_folder(args) as root:
        sections, targets, disk = _measure(size, root)
    notes = [
        f"dim {size.dim}, {size.read} utterances read, {size.write} written, {size.grow} to "
        f"{4 * size.grow} in growth, batch {sides.BATCH}",
        f"at most {disk / 1e9:.1f} GB on disk; OMP_NUM_THREADS=1 for every side",
    ]
    show(args, sections, *notes, targets=targets)


def _measure(size: Size, root: Path) -> tuple[dict[str, list[Row]], list[Target], int]:
    everyone = Corpus.msp_like(max(size.read, 4 * size.grow), size.dim)
    writing = _writing(everyone.first(size.write), root / "write", size.rounds)
    warm, cold, stored, disk = _reading(everyone.first(size.read), root / "read", size.rounds)
    growth, grown = _growth(everyone, size.grow, root / "growth", min(size.rounds, 3))
    index = opened_index(root / "index")
    sections = {
        "Writing": [*writing, *stored],
        "Reading, warm": warm,
        "Reading, cold": cold,
        "Growth, warm": growth,
        "Index": index,
    }
    figures = {row.name: row.value for row in [*stored, *index, *warm, *cold]}
    is_warm = "warm" if figures[MOST_READ] < 0.01 else "NOT really warm"
    is_cold = "cold" if figures[LEAST_READ] > 0.9 else "NOT really cold"
    cpu = times_the_cpu(writing, WRITE_PT, WRITE_OURS)
    targets = [
        Target(f"{is_warm}: ours / {PT}", times_as_fast(warm, OURS, PT), "≥", 9, "x"),
        Target(f"{is_cold}: ours / {PT}", times_as_fast(cold, OURS, PT), "≥", 4, "x"),
        Target(f"{is_warm}: ours / {ZARR}", times_as_fast(warm, OURS, ZARR), "≥", 10, "x"),
        Target("write CPU: .pt fp32 / ours", cpu, "≥", 4, "x"),
        Target("bytes on disk over raw fp16", 100 * figures["ours fp16"] - 100, "≤", 0.5, "%"),
        Target(FIRST_LENGTHS, figures[FIRST_LENGTHS], "<", 1, "CPU s"),
        Target(INDEX_RSS, figures[INDEX_RSS], "<", 300, "MB"),
    ]
    return sections, targets, max(disk, grown)


def _writing(corpus: Corpus, root: Path, rounds: int) -> list[Row]:
    root.mkdir()
    writers: dict[str, Callable[[Corpus, Path], object]] = {
        WRITE_PT: partial(sides.write_pt, dtype="float32"),
        "write .pt fp16": partial(sides.write_pt, dtype="float16"),
        "write HDF5 fp16": sides.write_hdf5,
        WRITE_OURS: sides.write_ours,
        "write ours int8": partial(sides.write_ours, precision="int8"),
        WRITE_BARE: sides.write_bare,
        WRITE_GUARDED: sides.write_guarded,
    }
    count, path = len(corpus.lengths), root / "written"
    compared = [
        Side(name, partial(write, corpus, path), count, before=partial(fresh, path))
        for name, write in writers.items()
    ]
    rows = compare(compared, "utterances", rounds)
    shutil.rmtree(root)
    for limit in (WRITE_BARE, WRITE_GUARDED):
        rows.append(Row(f"{WRITE_PT} / {limit}, CPU", times_the_cpu(rows, WRITE_PT, limit), "x"))
    return rows


def _reading(
    corpus: Corpus, root: Path, rounds: int
) -> tuple[list[Row], list[Row], list[Row], int]:
    """Return rows of warm and cold reading, of bytes on disk, and all bytes on disk."""
    plan = corpus.plan()
    pt32, pt16, hdf5 = root / "pt32", root / "pt16", root / "x.h5"
    sides.write_pt(corpus, pt32, "float32")
    sides.write_pt(corpus, pt16, "float16")
    sides.write_hdf5(corpus, hdf5)
    ours, int8 = (sides.write_ours(corpus, root / p, p) for p in ("float16", "int8"))
    readers = [
        Reader(PT, pt32, partial(sides.read_pt, pt32, plan, 0), "float32"),
        Reader(".pt fp32, 2 workers", pt32, partial(sides.read_pt, pt32, plan, 2), "float32"),
        Reader(".pt fp16, 0 workers", pt16, partial(sides.read_pt, pt16, plan, 0)),
        Reader(".pt fp16, 2 workers", pt16, partial(sides.read_pt, pt16, plan, 2)),
        Reader("h5py, HDF5 fp16", hdf5, partial(sides.read_hdf5, hdf5, plan)),
        Reader(ZARR, ours, partial(sides.read_zarr, ours, plan)),
        Reader(ONE, ours, partial(sides.read_ours, ours, plan, 1)),
        Reader(OURS, ours, partial(sides.read_ours, ours, plan, 2)),
        Reader(CHECKED, ours, partial(sides.read_ours, ours, plan, 2, check=True)),
        Reader("ours int8, 2 threads", int8, partial(sides.read_ours, int8, plan, 2), "int8"),
    ]
    limits = {
        CAST: sides.copy_limit(corpus, plan, cast=True),
        MEMCPY: sides.copy_limit(corpus, plan, cast=False),
    }
    warm = _warm(readers, limits, corpus, plan, rounds)
    cold = _cold(readers, ours, len(plan), min(rounds, 3))
    files = {".pt fp32": pt32, ".pt fp16": pt16, "HDF5": hdf5, "ours fp16": ours, "ours int8": int8}
    sizes = {name: disk_bytes(path) for name, path in files.items()}
    raw = int(corpus.lengths.sum()) * corpus.dim * 2  # bytes of float16
    stored = [Row(name, size / raw, "x raw fp16") for name, size in sizes.items()]
    shutil.rmtree(root)
    return warm, cold, stored, sum(sizes.values())


def _warm(
    readers: Sequence[Reader],
    limits: dict[str, Callable[[], object]],
    corpus: Corpus,
    plan: sides.Plan,
    rounds: int,
) -> list[Row]:
    with ExitStack() as stack:
        compared = [_opened(stack, reader, corpus, plan) for reader in readers]
        compared += [repeated(name, copy, len(plan)) for name, copy in limits.items()]
        rows = compare(compared, "batches", rounds)
    shares = max(_shares(rows, readers, max))
    for own in (ONE, OURS):
        rows.append(Row(f"{own} / cast copy", times_as_fast(rows, own, CAST), "x"))
    for row in (OURS, CAST):
        rows.append(Row(f"{PT} / {row}, CPU", times_the_cpu(rows, PT, row), "x"))
    rows.append(Row(f"{CHECKED} / {OURS}, CPU", times_the_cpu(rows, CHECKED, OURS), "x"))
    return [*rows, Row(MOST_READ, shares, "x")]


def _shares(
    rows: Sequence[Row], readers: Sequence[Reader], worst: Callable[[Sequence[float]], float]
) -> list[float]:
    """Return how much of its files each side read from disk, in its worst round."""
    return [
        worst(row.read_gb_rounds) * 1e9 / disk_bytes(reader.files)
        for row, reader in zip(rows, readers, strict=False)  # the limits come last, without files
    ]


def _opened(
    stack: ExitStack, reader: Reader, corpus: Corpus, plan: sides.Plan, base: str = ""
) -> Side:
    epoch = stack.enter_context(reader.open())
    sides.check(reader, epoch, corpus, plan)
    side = repeated(reader.name, partial(_consume, epoch), len(plan))
    return replace(side, before=partial(warm_up, reader.files), base=base)


def _cold(readers: Sequence[Reader], ours: Path, batches: int, rounds: int) -> list[Row]:
    def read(reader: Reader) -> None:
        with reader.open() as epoch:
            _consume(epoch)

    compared = [
        Side(r.name, partial(read, r), batches, before=partial(drop, r.files)) for r in readers
    ]
    compared.append(Side(IN_ORDER, partial(warm_up, ours), batches, before=partial(drop, ours)))
    rows = compare(compared, "batches", rounds)
    least = min(_shares(rows, readers, min))
    rows.append(Row(f"{OURS} / {IN_ORDER}", times_as_fast(rows, OURS, IN_ORDER), "x"))
    return [*rows, Row(LEAST_READ, least, "x")]


def _growth(everyone: Corpus, grow: int, root: Path, rounds: int) -> tuple[list[Row], int]:
    pt = root / "pt"
    sides.write_pt(everyone.first(4 * grow), pt, "float32")
    with ExitStack() as stack:
        compared: list[Side] = []
        for times in (1, 2, 4):
            corpus = everyone.first(times * grow)
            plan = corpus.plan()
            path = sides.write_ours(corpus, root / f"{times}x")
            base = f"{times}x: {PT}"
            for reader in (
                Reader(base, pt, partial(sides.read_pt, pt, plan, 0), "float32"),
                Reader(f"{times}x: {OURS}", path, partial(sides.read_ours, path, plan, 2)),
            ):
                compared.append(_opened(stack, reader, corpus, plan, base))
        rows = compare(compared, "batches", rounds)
    size = disk_bytes(root)
    shutil.rmtree(root)
    return rows, size


def _consume(epoch: sides.Epoch) -> None:
    for _ in epoch():
        pass


if __name__ == "__main__":
    main()
