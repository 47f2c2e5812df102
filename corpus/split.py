"""Divide a corpus into train, dev and test, or into folds, without dividing a speaker.

1. Utterances with the same speaker, or the same value in the column `by`, form a group, and a group
   is never divided.
2. Groups are placed one by one, in an order drawn from the seed, each where the counts stay nearest
   to the ones wanted.
3. Then single groups are moved, and pairs are exchanged, as long as that brings the counts nearer.

The distance is chi-square over columns of counts: one for each class and, at a tenth of the weight,
one for each gender and each corpus. scikit-learn's `StratifiedGroupKFold` has equal shares only and
stops after step 2: five folds of EmoDB's four classes have 51 to 83 clips with it, 58 to 78 here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ser.corpus.cells import texts
from ser.corpus.errors import UserError, listed, plural, shown
from ser.corpus.manifest import Manifest

STRATA = {"emotion": 1.0, "gender": 0.1, "corpus": 0.1}  # columns of the manifest and their weight
MOST = 400  # groups that are exchanged; with more of them, placing them one by one is even enough
GAIN = 1e-9  # of the distance; less is rounding


def split_manifest(
    manifest: Manifest, by: str = "speaker", test: float = 0.2, dev: float = 0.2, seed: int = 0
) -> Manifest:
    """Divide the utterances into train, dev and test; the splits of the manifest are replaced.

    Args:
        manifest: the corpus.
        by: the column that is not divided, as speaker or session; speakers never are.
        test: the share of utterances to test on, from 0 (no test split) to below 1.
        dev: the share of utterances to choose models by.
        seed: another seed gives another division, where there are several good ones.

    Classes are spread as evenly as whole groups allow; an utterance whose group is unknown is a
    group of its own. Raises `UserError` for shares that leave nothing for train, a column that is
    missing or empty, and fewer groups than splits.

        >>> rows = {"path": [f"{i}.wav" for i in range(8)], "speaker": [*"aabbccdd"]}
        >>> rows |= {"utterance": rows["path"], "emotion": ["sad", "angry"] * 4}
        >>> split = split_manifest(Manifest(pl.DataFrame(rows)), test=0.25, dev=0.25)
        >>> [len(split.utterances(name)) for name in ("train", "dev", "test")]
        [4, 2, 2]
    """
    for name, share in (("test", test), ("dev", dev)):
        if not 0 <= share < 1:
            raise UserError(f"{name} is {share:g}; it is a share of the utterances, as 0.2.")
    if not 0 < test + dev < 1:
        raise UserError(
            f"test is {test:g} and dev is {dev:g}; their sum must be above 0 and below 1, as the "
            "rest is for train."
        )
    shares = {"train": 1 - test - dev, "dev": dev, "test": test}
    return _divided(manifest, "split", {k: v for k, v in shares.items() if v}, by, seed)


def fold_manifest(manifest: Manifest, folds: int, by: str = "speaker", seed: int = 0) -> Manifest:
    """Divide the utterances into `folds` equal folds, called 1, 2, …, in the column `fold`.

    Everything else is as in `split_manifest`; the splits of the manifest stay.
    """
    if folds < 2:
        raise UserError(f"folds is {folds}; use 2 or more.")
    if folds > len(manifest):
        raise UserError(
            f"folds is {folds}, but {manifest.source} has only "
            f"{plural(len(manifest), 'utterance')}; make fewer folds."
        )
    shares = {str(i): 1 / folds for i in range(1, folds + 1)}
    return _divided(manifest, "fold", shares, by, seed)


@dataclass(frozen=True)
class Part:
    """What a part of a corpus has: clips, known speakers, and clips of every class.

    `name` is "" for utterances that are in no part; `unlabelled` counts clips without a class.
    """

    name: str
    clips: int
    speakers: int
    classes: dict[str, int]
    unlabelled: int


def parts_of(manifest: Manifest, column: str) -> list[Part]:
    """Count every part of `column`, split or fold: train, dev and test, or folds by number."""
    frame = manifest.frame.with_columns(pl.col(column).fill_null(""))
    names = sorted(set(frame[column]) - {""}, key=lambda n: (int(n) if n.isdecimal() else 10**9, n))
    parts = []
    for name in (*(("train", "dev", "test") if column == "split" else names), ""):
        *counts, unlabelled = manifest.class_counts(frame[column] == name)
        classes = dict(zip(manifest.classes, counts, strict=True))
        speakers = frame["speaker"].filter(frame[column] == name).drop_nulls().n_unique()
        parts.append(Part(name, sum(counts) + unlabelled, speakers, classes, unlabelled))
    return parts if parts[-1].clips else parts[:-1]


def part_table(parts: Sequence[Part]) -> pl.DataFrame:
    """Return a table of parts: a column for each; clips, speakers and every class as rows."""
    labels = ["clips", "speakers", *parts[0].classes, "(none)"]
    counts = {
        part.name or "(none)": [part.clips, part.speakers, *part.classes.values(), part.unlabelled]
        for part in parts
    }
    return pl.DataFrame({"": labels, **counts})


def divide(
    counts: np.ndarray, shares: Sequence[float], weights: np.ndarray, seed: int
) -> list[int]:
    """Return a part for every row of `counts` `(groups, columns)`, so that parts get their shares.

    `weights` `(columns,)`: how much a column matters. No part is empty; there are at least as many
    groups as parts.
    """
    wanted = np.outer(shares, counts.sum(0))
    scale = weights / wanted
    order = np.random.default_rng(seed).permutation(len(counts))
    if len(counts) > MOST:
        order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    excess = -wanted  # what a part has beyond what is wanted
    parts, empty = np.zeros(len(counts), np.int64), np.ones(len(shares), bool)
    for left, group in zip(range(len(counts), 0, -1), order, strict=True):
        cost = _costs(excess, counts[group], scale)
        if left <= empty.sum():  # one group for each of them
            cost[~empty] = np.inf
        part = int(cost.argmin())
        parts[group], empty[part] = part, False
        excess[part] += counts[group]
    while len(counts) <= MOST and _exchange(counts, parts, excess, scale):
        pass
    return parts.tolist()


def _costs(excess: np.ndarray, change: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return by how much the distance grows when `change` is added to the counts of a part."""
    costs: np.ndarray = ((2 * excess + change) * change * scale).sum(-1)
    return costs


def _exchange(counts: np.ndarray, parts: np.ndarray, excess: np.ndarray, scale: np.ndarray) -> bool:
    """Make the one move of a group, or exchange of two, that gains most; False when none does."""
    best = -GAIN
    moves: list[tuple[int, int]] = []  # of a group into a part
    sizes = np.bincount(parts, minlength=len(excess))
    for group, part in enumerate(parts.tolist()):
        if sizes[part] > 1:
            cost = _costs(excess, counts[group], scale)
            cost += _costs(excess[part], -counts[group], scale[part])
            cost[part] = np.inf
            if cost.min() < best:
                best, moves = cost.min(), [(group, int(cost.argmin()))]
        others = np.flatnonzero(parts > part)
        if len(others):
            given = counts[others] - counts[group]
            cost = _costs(excess[part], given, scale[part])
            cost += _costs(excess[parts[others]], -given, scale[parts[others]])
            if cost.min() < best:
                other = int(others[cost.argmin()])
                best, moves = cost.min(), [(group, int(parts[other])), (other, part)]
    for group, goal in moves:
        excess[parts[group]] -= counts[group]
        excess[goal] += counts[group]
        parts[group] = goal
    return bool(moves)


def require_speakers(manifest: Manifest, between: str = "train and test") -> None:
    """Raise `UserError` when all utterances are of one speaker, so that nothing can be divided."""
    speakers = manifest.frame["speaker"].unique()
    if len(speakers) == 1 and speakers[0] is not None and len(manifest) > 1:
        raise UserError(
            f"{manifest.source}: all {len(manifest)} clips are of one speaker "
            f"({shown(str(speakers[0]))}); speakers must differ between {between}: add clips of "
            "other speakers."
        )


def _divided(
    manifest: Manifest, column: str, shares: dict[str, float], by: str, seed: int
) -> Manifest:
    groups, notes = _groups(manifest, by)
    count = int(groups.max(initial=-1)) + 1
    if count < len(shares):
        require_speakers(manifest, "train and test" if column == "split" else "folds")
        shared = "speaker" if by == "speaker" else f"{by} or speaker"
        raise UserError(
            f"{manifest.source}: utterances with the same {shared} stay together, which makes "
            f"{plural(count, 'group')}, too few for {len(shares)} parts ({listed(shares)}); make "
            "fewer parts."
        )
    counts, weights = [], []
    for name, weight in STRATA.items():
        _, values = np.unique(manifest.frame[name].fill_null("").to_numpy(), return_inverse=True)
        table = np.zeros((count, values.max() + 1))
        np.add.at(table, (groups, values), 1)
        counts.append(table)
        weights += [weight] * table.shape[1]
    parts = divide(np.hstack(counts), list(shares.values()), np.array(weights), seed)
    names = list(shares)
    named = pl.Series(column, [names[parts[group]] for group in groups])
    frame = manifest.frame.with_columns(named)
    return Manifest(frame, manifest.classes, manifest.source, manifest.audio, notes)


def _groups(manifest: Manifest, by: str) -> tuple[np.ndarray, list[str]]:
    """Return the number of each row's group, and remarks about the groups."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    frame = manifest.frame
    if by not in frame.columns:
        raise UserError(
            f"{manifest.source}: there is no column '{by}' to divide by; its columns are: "
            f"{listed(frame.columns)}."
        )
    if frame[by].null_count() == frame.height:
        remedy = "utterance, which divides clip by clip" if by == "speaker" else "another column"
        raise UserError(
            f"{manifest.source}: the column '{by}' is empty; fill it in, or divide by {remedy}."
        )
    rows = np.arange(frame.height)
    nodes, width = [], frame.height
    for name in dict.fromkeys((by, "speaker")):
        column = texts(frame[name], manifest.source)
        filled = column.is_not_null().to_numpy()
        _, values = np.unique(column.drop_nulls().to_numpy(), return_inverse=True)
        nodes.append((rows[filled], width + values))
        width += len(values)
    edges = np.hstack(nodes)
    graph = coo_matrix((np.ones(edges.shape[1]), tuple(edges)), (width, width))
    labels = connected_components(graph, directed=False)[1][: frame.height]
    unknown = frame[by].null_count()
    verb = "has" if unknown == 1 else "have"
    notes = [f"{plural(unknown, 'utterance')} {verb} no {by}: each is a group of its own"]
    return np.unique(labels, return_inverse=True)[1], notes if unknown else []
