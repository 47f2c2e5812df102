"""Training clips of common classes joined with clips of rare ones, and their labels averaged.

1. A clip of a common class, one with more clips than the average class, is joined with a clip of a
   rare class with probability `join`. All rare classes are equally likely.
2. Either clip comes first, and they are separated by silence or overlap, each with probability 1/2;
   the length of the silence or overlap is uniform from 0 to 2 s.
3. The targets are the mean of those of both clips: shares of votes, attributes (unknown where
   either is unknown) and gender.

From the SAIL entry of 2025 for classes (Feng et al.), as quoted in secondary sources. Our choices:
the definition of a common class, the probability, that an overlap is never longer than the shorter
clip, that loudness is not changed, that both clips may be from one speaker, and the treatment of
attributes and gender.

Everything drawn depends only on (seed, epoch, utterance), so lengths are known before a clip is
read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.sources import hash64
from ser.finetune.config import FineTuneConfig
from ser.heads.training.targets import Labelled, Targets

LONGEST = 2.0  # s of silence or overlap


@dataclass(frozen=True)
class Join:
    """How a clip is joined with a partner, and whether it comes first.

    `gap` is the number of samples of silence between the two; if negative, of overlap.
    """

    partner: str
    first: bool
    gap: int

    def samples(self, clip: int, partner: int) -> int:
        """Return the number of samples after joining clips of these lengths."""
        return clip + partner + max(self.gap, -min(clip, partner))

    def apply(self, wave: np.ndarray, partner: np.ndarray) -> np.ndarray:
        """Join two clips, float32 `(samples,)`; scale the result down if it exceeds full scale."""
        first, second = (wave, partner) if self.first else (partner, wave)
        joined = np.zeros(self.samples(len(wave), len(partner)), np.float32)
        joined[: len(first)] = first
        joined[len(joined) - len(second) :] += second
        safe: np.ndarray = joined / max(np.abs(joined).max(), np.float32(1))
        return safe


class Joins:
    """The random draw of partners for the clips of a training set.

    Raises `UserError` when `join` is set and all classes are equally frequent.
    """

    def __init__(self, config: FineTuneConfig, train: Labelled) -> None:
        self._chance, self._seed = config.join, config.training.seed
        names, labels = np.array(train.utterances, object), train.classes
        clips = [names[labels == label].tolist() for label in np.unique(labels[labels >= 0])]
        even = np.mean([len(members) for members in clips]) if clips else 0.0
        self._common = {u for members in clips if len(members) > even for u in members}
        self._rare = [members for members in clips if len(members) <= even]
        if self._chance and not self._common:
            raise UserError(
                "finetune: join: no class of the training split has more clips than another, so "
                "there is nothing to join; remove `join`."
            )

    def draw(self, utterance: str, epoch: int) -> Join | None:
        """Return how a clip is joined in an epoch, or None."""
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
        """Return the index of each clip's partner, int64; its own where it is not joined."""
        index = {utterance: i for i, utterance in enumerate(utterances)}
        joins = [self.draw(utterance, epoch) for utterance in utterances]
        return np.array(
            [i if j is None else index[j.partner] for i, j in enumerate(joins)], np.int64
        )


def averaged(
    targets: Callable[[np.ndarray], Targets], partners: np.ndarray
) -> Callable[[np.ndarray], Targets]:
    """Return a function that averages the targets of each row with those of its partner.

    The targets of a row that is its own partner are unchanged, to the bit.
    """

    def at(positions: np.ndarray) -> Targets:
        pairs = targets(np.concatenate([positions, partners[positions]]))
        return pairs.each(lambda rows: rows.unflatten(0, (2, -1)).mean(dim=0))

    return at
