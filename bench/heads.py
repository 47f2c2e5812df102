"""Training `cross_modal_gru` on the CPU: the published way, and ours.

published   one .pt fp32 file a clip and feature, a stock DataLoader, random batches padded to the
            longest, no masks, nn.GRU on what is padded
ours        the cache's reader, batches of clips of similar length, masks, our recurrent layer; in
            `stride: k` a mean of k frames of speech replaces them, what is computed is no longer
            the same

Same architecture, first weights, loss, optimizer and batch size. Speech has 50 frames a second,
text 2.5 tokens. A corpus has 2,048 clips, of lengths like those of MSP-Podcast (lognormal, mean
5.7 s, 2-20 s) or of RAVDESS (mean 3.7 s, 3-5.3 s). An epoch of it is too long to be timed the
published way, so each side trains on some of the batches that it would make of the whole: random
ones, and ones of similar length. So these are other clips, but as many, and drawn so that their
mean length is nearest to that of the corpus.

Times are of these batches, several rounds, the sides in turn; ratios are of CPU seconds, user and
system, which other work on the machine moves less than wall time. One thread for every library.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.cache_sides import msp_seconds
from bench.heads_sides import Clips, Ours, Published, Size, check
from bench.report import (
    Row,
    Side,
    Target,
    arguments,
    compare,
    median_row,
    show,
    temporary_folder,
    times_the_cpu,
    use_one_thread,
)
from ser.cache.reader import bucket

PUBLISHED = "published"
STRIDES = (1, 2, 4, 8)
FRAME_RATE, TOKEN_RATE = 50.0, 2.5
CORPUS = 2_048  # clips
DRAWS = 500  # of batches, of which those are taken whose mean length is nearest the corpus's


QUICK = Size(hidden=128, speech=320, text=256, batch=32)
FULL = Size(hidden=512, speech=1_280, text=1_024, batch=64)


def main() -> None:
    use_one_thread()
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    sections: dict[str, list[Row]] = {}
    targets: list[Target] = []
    for name, seconds, batches in (
        ("MSP-Podcast-like", msp_like(), 3),
        ("RAVDESS-like", ravdess_like(), 2),
    ):
        with temporary_folder(args) as root:
            rows, met = _measure(seconds, batches, size, args.rounds, root)
        clips = f"{batches * size.batch} of {CORPUS:,} clips, mean {seconds.mean():.1f} s"
        sections[f"{name}: {clips}"] = rows
        targets += [] if targets else met
    note = (
        f"hidden {size.hidden}, speech {size.speech}, text {size.text}, batch {size.batch}, "
        f"{args.rounds} rounds, medians; times: of CPU seconds"
    )
    show(args, sections, note, targets=targets)


def msp_like() -> np.ndarray:
    """Draw seconds `(clips,)`."""
    return msp_seconds(CORPUS, np.random.default_rng(0))


def ravdess_like() -> np.ndarray:
    """Draw seconds `(clips,)`."""
    return np.clip(np.random.default_rng(1).normal(3.7, 0.34, CORPUS), 2.9, 5.3)


def _drawn(seconds: np.ndarray, plan: Sequence[list[int]], batches: int) -> np.ndarray:
    """Return the seconds of some batches of a plan, whose mean is near that of all."""
    rng = np.random.default_rng(2)
    wanted = seconds.mean()
    draws = [rng.choice(len(plan), batches, replace=False) for _ in range(DRAWS)]
    values = [np.concatenate([seconds[plan[i]] for i in draw]) for draw in draws]
    return min(values, key=lambda drawn: abs(float(drawn.mean() - wanted)))


def _measure(
    seconds: np.ndarray, batches: int, size: Size, rounds: int, root: Path
) -> tuple[list[Row], list[Target]]:
    dims = {"speech": size.speech, "text": size.text}
    order = np.random.default_rng(3).permutation(len(seconds))
    similar = bucket(order, seconds, size.batch, np.random.default_rng(4))
    cut = [order[i : i + size.batch].tolist() for i in range(0, len(order), size.batch)]
    bucketed = Clips.write(root / "ours", frames_of(_drawn(seconds, similar, batches)), dims)
    mixed = Clips.write(root / "published", frames_of(_drawn(seconds, cut, batches)), dims)
    ours = {f"ours, stride {stride}": Ours(bucketed, size, stride) for stride in STRIDES}
    equal, reduced = "ours, stride 1", "ours, stride 4"
    published = Published(mixed, size, ours[equal].head())
    check(bucketed, ours[equal], published)
    sides = [Side(PUBLISHED, published.epoch, 1)]
    sides += [Side(name, side.epoch, 1) for name, side in ours.items()]
    rows = compare(sides, "epochs", rounds)
    ratios = {row.name: times_the_cpu(rows, PUBLISHED, row.name) for row in rows}
    means = [
        Row(f"mean length, {name}", clips.lengths["speech"].mean() / FRAME_RATE, "s")
        for name, clips in ((PUBLISHED, mixed), ("ours", bucketed))
    ]
    shares = [
        Row(f"padded share, {name}", 100 * side.padded_share, "%")
        for name, side in ({PUBLISHED: published} | ours).items()
    ]
    targets = [
        Target("CPU: published / ours, equal mathematics", ratios[equal], "≥", 2.5, "x"),
        Target("CPU: published / ours, stride 4", ratios[reduced], "≥", 8, "x"),
    ]
    return [*_seconds(rows, ratios), *shares, *means], targets


def frames_of(seconds: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "speech": np.maximum(seconds * FRAME_RATE, 1).astype(np.int64),
        "text": np.maximum(np.round(seconds * TOKEN_RATE), 1).astype(np.int64),
    }


def _seconds(rows: Sequence[Row], ratios: dict[str, float]) -> list[Row]:
    """Return rows of seconds for all batches, with ratios of CPU time."""
    return [
        median_row(
            row.name,
            [1 / rate for rate in row.value_rounds],
            "s",
            ratio_to=PUBLISHED,
            ratio=ratios[row.name],
            cpu=row.cpu,
            cpu_rounds=row.cpu_rounds,
        )
        for row in rows
    ]


if __name__ == "__main__":
    main()
