"""The attention of the heads: the weights of their pooling, on the frames of each feature.

Each head reads a feature with a stride of its own, so the weight of a mean of k frames is shared
among the k; then the heads that pool this feature by attention are averaged. The weights show what
a head weighed, not what made it decide: a frame of a BiGRU carries what it remembers there.
"""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ser.cache.precision import Encoded
from ser.cache.transcripts import Transcript
from ser.predict.features import Extracted, LiveFeatures
from ser.predict.result import Attention, Word

if TYPE_CHECKING:
    from ser.heads.trained import TrainedHead

Pooling = dict[str, list[tuple[np.ndarray, int]]]  # by feature: each head's weights, and its stride


def inputs_of(head: "TrainedHead", clips: Sequence[Extracted]) -> dict[str, list[Encoded]]:
    """Return the frames of clips that a head reads, by feature."""
    return {name: [clip.frames[name] for clip in clips] for name in head.config.feature_names}


def head_weights(
    heads: "Iterable[TrainedHead]", clips: Sequence[Extracted], speakers: Sequence[Hashable] | None
) -> list[Pooling]:
    """Return the pooling weights that the heads give to each clip; `speakers` as for `predict`."""
    pooling: list[Pooling] = [{} for _ in clips]
    for head in heads if clips else ():
        strides = {use.name: use.stride for use in head.config.features}
        for name, weights in head.attention(inputs_of(head, clips), speakers).items():
            for by_feature, clip_weights in zip(pooling, weights, strict=True):
                by_feature.setdefault(name, []).append((clip_weights, strides[name]))
    return pooling


def explain_clip(
    features: LiveFeatures, clip: Extracted, pooling: Pooling, start: float
) -> tuple[dict[str, Attention], Sequence[Word]]:
    """Return the attention by feature and by word of a clip that begins at `start` (s)."""
    frames = {name: len(clip.frames[name].data) for name in pooling}
    rates = {name: features.frame_rate(name) for name in pooling}
    attention = mean_attention(pooling, frames, rates, start)
    texts = [name for name in pooling if rates[name] is None]
    if not texts:
        return attention, ()
    transcript = next(iter(clip.words.values()))
    tokens = []
    for name in texts:
        text, offsets = features.tokens(name, clip)
        if text == transcript.text:
            tokens.append((attention[name].weights, offsets))
    return attention, word_weights(tokens, transcript, start)


def spread(weights: np.ndarray, stride: int, frames: int) -> np.ndarray:
    """Share the weights of strided frames among all frames; float64, the sum stays."""
    counts = np.full(len(weights), stride)
    counts[-1] = frames - stride * (len(weights) - 1)
    return np.repeat(weights / counts, counts)


def mean_attention(
    pooling: Mapping[str, Sequence[tuple[np.ndarray, int]]],
    frames: Mapping[str, int],
    rates: Mapping[str, float | None],
    start: float,
) -> dict[str, Attention]:
    """Average, by feature, the weights (with their strides) that heads gave to one segment."""
    attention = {}
    for name, by_head in pooling.items():
        spreads = [spread(weights.astype(np.float64), k, frames[name]) for weights, k in by_head]
        mean = np.mean(spreads, axis=0)
        rate = rates[name]
        times = None if rate is None else start + np.arange(frames[name]) / rate
        attention[name] = Attention(mean / mean.sum(), times)
    return attention


def word_weights(
    tokens: Iterable[tuple[np.ndarray, Sequence[tuple[int, int]]]],
    transcript: Transcript,
    start: float,
) -> list[Word]:
    """Return the words of a transcript with their share of the attention; the sum is 1.

    `tokens` are weights and characters (from, to) of the frames of each text feature. Words have
    times where the transcriber gave them.
    """
    text = transcript.text
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    total = np.zeros(len(spans))
    for weights, offsets in tokens:
        if len(offsets) == len(weights) and spans:
            total += _by_word(weights, offsets, spans)
    if not total.sum():
        return []
    times: list[tuple[float | None, float | None]] = [(None, None)] * len(spans)
    if len(transcript.words) == len(spans):
        times = [(start + word.start, start + word.end) for word in transcript.words]
    return [
        Word(text[a:b], float(share), *span)
        for (a, b), share, span in zip(spans, total / total.sum(), times, strict=True)
    ]


def _by_word(
    weights: np.ndarray, offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> np.ndarray:
    total = np.zeros(len(spans))
    for weight, (first, last) in zip(weights, offsets, strict=True):
        overlaps = [min(last, b) - max(first, a) for a, b in spans]
        if max(overlaps) > 0:
            total[int(np.argmax(overlaps))] += weight
    return total
