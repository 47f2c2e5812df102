"""Where the heads looked: the weights of their attention pooling, on the frames of each feature.

Heads read a feature by strides of their own, so the weight of a mean of k frames is shared out
among the k; then the heads that pool this feature by attention are averaged. It says what a head
weighed, not what made it decide: weights of a BiGRU's frames are of what it remembers there.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cache.transcripts import Transcript
from ser.predict.result import Attention, Word


def spread(weights: np.ndarray, stride: int, frames: int) -> np.ndarray:
    """Share the weights of strided frames out among all frames; float64, the sum stays."""
    counts = np.full(len(weights), stride)
    counts[-1] = frames - stride * (len(weights) - 1)
    return np.repeat(weights / counts, counts)


def attention(
    looked: Mapping[str, Sequence[tuple[np.ndarray, int]]],
    frames: Mapping[str, int],
    rates: Mapping[str, float | None],
    start: float,
) -> dict[str, Attention]:
    """Average, by feature, the weights (with their strides) that heads gave to one segment."""
    found = {}
    for name, of_heads in looked.items():
        each = [spread(weights.astype(np.float64), k, frames[name]) for weights, k in of_heads]
        mean = np.mean(each, axis=0)
        rate = rates[name]
        times = None if rate is None else start + np.arange(frames[name]) / rate
        found[name] = Attention(mean / mean.sum(), times)
    return found


def word_weights(
    text: str,
    tokens: Iterable[tuple[np.ndarray, Sequence[tuple[int, int]]]],
    said: Transcript | None,
    start: float,
) -> list[Word]:
    """Return the words of a text with their share of the attention, which sums to 1 over them.

    `tokens` are weights and characters (from, to) of the frames of each text feature. Words have
    times where the transcriber gave them.
    """
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    total = np.zeros(len(spans))
    for weights, offsets in tokens:
        if len(offsets) == len(weights) and spans:
            total += _by_word(weights, offsets, spans)
    if not total.sum():
        return []
    times: list[tuple[float | None, float | None]] = [(None, None)] * len(spans)
    if said is not None and len(said.words) == len(spans):
        times = [(start + word.start, start + word.end) for word in said.words]
    return [
        Word(text[a:b], float(share), *when)
        for (a, b), share, when in zip(spans, total / total.sum(), times, strict=True)
    ]


def _by_word(
    weights: np.ndarray, offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> np.ndarray:
    total = np.zeros(len(spans))
    for weight, (first, last) in zip(weights, offsets, strict=True):
        shared = [min(last, b) - max(first, a) for a, b in spans]
        if max(shared) > 0:
            total[int(np.argmax(shared))] += weight
    return total
