"""How close a system's probabilities are to the distribution of the raters' votes.

q are the shares of an utterance's votes for the classes (votes for none of them are left out), p
the system's probabilities. Utterances without a vote are left out; those without a consensus class
take part. Over utterances:

jsd            mean Jensen-Shannon divergence H((p + q) / 2) - (H(p) + H(q)) / 2 in bits: 0 is the
               same distribution, 1 no class in common (Lin 1991, "Divergence Measures Based on the
               Shannon Entropy"). It is the divergence, the square of the distance
kld            mean Kullback-Leibler divergence from the raters to the system, sum_c q_c
               log(q_c / p_c), in nats, the direction and unit of the loss `kld` (Kullback, Leibler
               1951, "On Information and Sufficiency"). As a p of 0 would make it infinite, p is
               smoothed: (p + 1e-6) / (1 + 1e-6 C). So a rule whose p are shares of heads, often
               0, has large values
cosine         mean of p . q / (|p| |q|), 0 to 1
soft_macro_f1  F1 of fuzzy sets, averaged over the classes that some rater chose: 2 sum min(p_c,
               q_c) / sum (p_c + q_c), sums over utterances. It is macro-F1 where p and q are 0 or
               1, and 1 only for p = q (fuzzy precision and recall: Harju, Mesaros 2023,
               "Evaluating Classification Systems Against Soft Labels with Fuzzy Precision and
               Recall", with Zadeh's minimum as the intersection)
hit_rate       share of utterances whose predicted class was chosen by at least one rater

Strata: the same by the entropy of q in bits, in thirds of the utterances (`low`, `medium`, `high`).
Equal entropies are never parted, so where more than a third is unanimous, `low` is larger; an empty
stratum is left out. Averages over utterances of different ambiguity hide most of what the scores
show (arXiv 2606.27536, Interspeech 2026, whose limits are not in its abstract).
"""

from collections.abc import Sequence

import numpy as np

from ser.score.bootstrap import Resamples, resample_speakers
from ser.score.speakers import too_few

SMOOTHING = 1e-6
MEANS = ("jsd", "kld", "cosine", "hit_rate")
METRICS = ("jsd", "kld", "cosine", "soft_macro_f1", "hit_rate")
STRATA = ("low", "medium", "high")


def score_distributions(
    votes: np.ndarray,
    probabilities: np.ndarray,
    predictions: np.ndarray,
    speakers: Sequence[str | None],
    *,
    resamples: int = 1000,
    seed: int = 42,
) -> dict[str, object]:
    """Score one system against the votes; {} where no utterance has any.

    Returns n, speakers (None where none is known), the metrics, their `interval` over speakers,
    and `by_entropy`: the same of each stratum, with `entropy`, its lowest and highest.

    Args:
        votes: counts, or weighted counts, `(rows, classes)`.
        probabilities: of the system, `(rows, classes)`.
        predictions: the predicted class of each row, an index.
        speakers: one a row, "" or None where unknown.
        resamples: draws of speakers for the intervals.
        seed: of the draws.

        >>> votes, p = np.array([[4, 0], [1, 3]]), np.array([[0.9, 0.1], [0.25, 0.75]])
        >>> scores = score_distributions(votes, p, p.argmax(1), ["a", "b"])
        >>> round(scores["jsd"], 3), scores["hit_rate"], scores["interval"]["jsd"]
        (0.026, 1.0, None)
    """
    rows = np.flatnonzero(votes.sum(axis=1) > 0)
    if not len(rows):
        return {}
    shares = votes[rows] / votes[rows].sum(axis=1, keepdims=True)
    statistics = _statistics(shares, probabilities[rows], predictions[rows])
    draw = resample_speakers([speakers[i] for i in rows.tolist()], resamples, seed)
    scores = _scored(draw, statistics, np.ones(len(rows), bool))
    by_entropy = {}
    for name, mask, limits in _strata(entropy(shares)):
        by_entropy[name] = {"entropy": limits, **_scored(draw, statistics, mask)}
    return scores | {"by_entropy": by_entropy}


def entropy(shares: np.ndarray) -> np.ndarray:
    """Return the Shannon entropy of each row of `(rows, classes)`, in bits."""
    logarithm = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    bits: np.ndarray = -(shares * logarithm).sum(axis=1)
    return bits.clip(0)  # and no -0.0


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence of each row of `(rows, classes)`, 0 to 1 bit.

    >>> jensen_shannon(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])).round(4).tolist()
    [0.3113]
    """
    divergence: np.ndarray = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    return divergence.clip(0, 1)


def kullback_leibler(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return KL(q || p) of each row of `(rows, classes)` in nats, p smoothed."""
    smooth = (p + SMOOTHING) / (1 + SMOOTHING * p.shape[1])
    logarithm = np.log(q / smooth, out=np.zeros_like(q), where=q > 0)
    divergence: np.ndarray = (q * logarithm).sum(axis=1)
    return divergence


def cosine(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `(rows, classes)`."""
    lengths = np.linalg.norm(p, axis=1) * np.linalg.norm(q, axis=1)
    angle: np.ndarray = (p * q).sum(axis=1) / lengths
    return angle


def _statistics(q: np.ndarray, p: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return the summands of the metrics: 1, those of MEANS, and min(p, q), p, q of each class."""
    hit = np.take_along_axis(q, predictions[:, None], axis=1)[:, 0] > 0
    means = (jensen_shannon(p, q), kullback_leibler(q, p), cosine(p, q), hit.astype(float))
    return np.column_stack([np.ones(len(q)), *means, np.minimum(p, q), p, q])


def _metrics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Turn sums `(..., columns)` into metrics `(...)`, NaN where no row was drawn."""
    n = sums[..., 0]
    with np.errstate(invalid="ignore"):
        metrics = {name: sums[..., i] / n for i, name in enumerate(MEANS, 1)}
        overlap, p, q = np.split(sums[..., 1 + len(MEANS) :], 3, axis=-1)
        f1 = np.divide(2 * overlap, p + q, out=np.zeros_like(p), where=p + q > 0)
        chosen = q > 0
        metrics["soft_macro_f1"] = (f1 * chosen).sum(axis=-1) / chosen.sum(axis=-1)
    return {name: metrics[name] for name in METRICS}


def _scored(draw: Resamples, statistics: np.ndarray, mask: np.ndarray) -> dict[str, object]:
    inside = statistics * mask[:, None]
    speakers = len(np.unique(draw.cluster[mask])) if draw.known else None
    drawn = _metrics(draw.sums(inside))
    return {
        "n": int(mask.sum()),
        "speakers": speakers,
        **{name: float(value) for name, value in _metrics(inside.sum(axis=0)).items()},
        "interval": {
            name: None if too_few(speakers) else draw.interval(values)
            for name, values in drawn.items()
        },
    }


def _strata(bits: np.ndarray) -> list[tuple[str, np.ndarray, list[float]]]:
    """Return name, mask `(rows,)` and the lowest and highest entropy of each stratum."""
    bits = bits.round(9)  # the same votes in another order
    stratum = np.digitize(bits, np.quantile(bits, [1 / 3, 2 / 3]), right=True)
    masks = [(name, stratum == i) for i, name in enumerate(STRATA)]
    return [
        (name, mask, [float(bits[mask].min()), float(bits[mask].max())])
        for name, mask in masks
        if mask.any()
    ]
