"""Training clips of common classes joined with clips of rare ones, and their labels averaged.

1. A clip of a common class, one with more than its even share of the training clips, is joined with
   a clip of a rare class by the chance `join`. A clip is drawn by the inverse of its class's share:
   the rare classes are equally likely.
2. Which of the two comes first is even, and so is whether silence lies between them or both are
   heard in an overlap; its length is uniform from 0 to 2 s.
3. The targets of what comes of it are the mean of those of the two: shares of votes, attributes
   (unknown where either is) and gender.

From the SAIL entry of 2025 for classes (Feng et al.), as others' notes quote it. Ours: what makes a
class common, the chance, that an overlap is never longer than the shorter clip, that loudness stays
as it is, that two clips may be of one speaker, and what becomes of attributes and gender.

Everything drawn hangs on (seed, epoch, utterance): the lengths are known before a clip is read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from corpus.errors import UserError
from extract.extractor import SAMPLE_RATE
from extract.sources import hash64
from heads.training.targets import Labelled, Targets
from ser.finetune.config import FineTuneConfig

LONGEST = 2.0  # s of silence or overlap


@dataclass(frozen=True)
class Join:
    """Say with whom a clip is joined, and whether it comes first.

    `apart` are the samples of silence between the two; less than 0, those of their overlap.
    """

    partner: str
    first: bool
    apart: int

    def samples(self, own: int, partner: int) -> int:
        """Return how many samples come of clips of these."""
        return own + partner + max(self.apart, -min(own, partner))

    def apply(self, wave: np.ndarray, partner: np.ndarray) -> np.ndarray:
        """Join two clips, float32 `(samples,)`; scaled down as a whole where beyond full scale."""
        one, other = (wave, partner) if self.first else (partner, wave)
        joined = np.zeros(self.samples(len(wave), len(partner)), np.float32)
        joined[: len(one)] = one
        joined[len(joined) - len(other) :] += other
        safe: np.ndarray = joined / max(np.abs(joined).max(), np.float32(1))
        return safe


class Joins:
    """Draw what the clips of a training set are joined with.

    Raises `UserError` when `join` is set and no class is commoner than another.
    """

    def __init__(self, config: FineTuneConfig, train: Labelled) -> None:
        self._chance, self._seed = config.join, config.training.seed
        of_class: dict[int, list[str]] = {}
        for utterance, label in zip(train.utterances, train.classes.tolist(), strict=True):
            if label >= 0:
                of_class.setdefault(label, []).append(utterance)
        clips = [of_class[label] for label in sorted(of_class)]
        even = np.mean([len(of) for of in clips]) if clips else 0.0
        self._common = {u for of in clips if len(of) > even for u in of}
        self._rare = [of for of in clips if len(of) <= even]
        if self._chance and not self._common:
            raise UserError(
                "finetune: join: no class of the training split has more clips than another, so "
                "that there is nothing to join; leave `join` out."
            )

    def of(self, utterance: str, epoch: int) -> Join | None:
        """Return what a clip is joined with in an epoch, if it is."""
        if not self._chance or utterance not in self._common:
            return None
        rng = np.random.default_rng(hash64(self._seed, epoch, utterance, "join"))
        if rng.random() >= self._chance:
            return None
        clips = self._rare[rng.integers(len(self._rare))]
        partner = clips[rng.integers(len(clips))]
        first, overlap = rng.random(2) < 0.5
        length = round(rng.uniform(0, LONGEST) * SAMPLE_RATE)
        return Join(partner, bool(first), -length if overlap else length)

    def partners(self, utterances: Sequence[str], epoch: int) -> np.ndarray:
        """Return the position of each clip's partner, int64; its own where it is not joined."""
        at = {utterance: i for i, utterance in enumerate(utterances)}
        joins = [self.of(utterance, epoch) for utterance in utterances]
        return np.array([i if j is None else at[j.partner] for i, j in enumerate(joins)], np.int64)


def averaged(
    targets: Callable[[np.ndarray], Targets], partners: np.ndarray
) -> Callable[[np.ndarray], Targets]:
    """Return what gives the mean of the targets of a row and of its partner.

    A row that is its own partner keeps its targets to the bit.
    """

    def at(positions: np.ndarray) -> Targets:
        both = targets(np.concatenate([positions, partners[positions]]))
        return both.each(lambda rows: rows.unflatten(0, (2, -1)).mean(dim=0))

    return at
