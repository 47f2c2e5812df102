"""Features that share one pass of their model: the frames and the words of a Whisper."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ser.extract.extractor import Extractor, FeatureOptions


class FeatureView(NamedTuple):
    """A feature: clean, or in a view of its training clips."""

    feature: str
    view: str = ""

    @property
    def name(self) -> str:
        """Return the name of its cache."""
        return f"{self.feature}+{self.view}" if self.view else self.feature

    @classmethod
    def of(cls, name: str) -> "FeatureView":
        """Return what the name of a cache stands for; no feature and no view has a plus sign."""
        feature, _, view = name.partition("+")
        return cls(feature, view)


def same_pass(features: FeatureOptions, words: FeatureOptions) -> bool:
    """Return whether these are frames and words of one Whisper in the same windows."""
    if (features.kind, words.kind) != ("whisper", "asr"):
        return False
    mine, theirs = (options.model_dump() for options in (features, words))
    if mine["compile"]:  # words are decoded from states that are not compiled
        return False
    same = ["model", "window"] + (["silence"] if mine["window"] == "trim" else [])
    return all(mine[key] == theirs[key] for key in same)


def passes(features: Mapping[str, FeatureOptions], names: Sequence[str]) -> list[list[str]]:
    """Group the features that share one pass of their model, in order."""
    groups = {name: [name] for name in names}
    for frames in names:
        words = next((w for w in groups if same_pass(features[frames], features[w])), None)
        if words is not None:
            groups[frames] += groups.pop(words)
    return sorted(groups.values(), key=lambda group: min(map(names.index, group)))


def joined(extractors: Sequence[Extractor]) -> Extractor:
    """Return the one extractor, or that of the frames and the words of one Whisper."""
    if len(extractors) == 1:
        return extractors[0]
    from ser.extract.kinds.whisper import Asr, FramesAndWords, WhisperFeatures

    frames, words = extractors
    assert isinstance(frames, WhisperFeatures) and isinstance(words, Asr)
    return FramesAndWords(frames, words)
