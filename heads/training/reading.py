"""What a head reads in training: its features from the cache, by their options.

`normalize: speaker` is done here. Every channel of a clip is shifted and scaled by the mean and
deviation of its speaker's frames, of all splits and without labels, so that a head sees how a voice
differs from its average. A clip whose speaker is unknown is the only one of its speaker. The
statistics are of the frames as stored, taken in one pass over the cache, and are not learned: a
speaker's clips of dev and test count in their own standard scores (transductive). They are drawn to
those of the training clips (`ser.heads.inputs.drawn_to_corpus`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from ser.cache.features import FeatureCache
from ser.cache.reader import Batch, Clips, FeatureInput, lengths_of
from ser.cache.strides import side_by_side
from ser.corpus.errors import UserError
from ser.heads.config import HeadConfig
from ser.heads.head import mask_of
from ser.heads.inputs import Moments, SpeakerScores
from ser.heads.job import Views


@dataclass(frozen=True)
class Reading:
    """The features that a head reads; `speakers` are the scores of `normalize: speaker`."""

    columns: Mapping[str, FeatureInput]
    speakers: Mapping[str, SpeakerScores[str]]

    @classmethod
    def of(
        cls,
        config: HeadConfig,
        caches: Mapping[str, FeatureCache],
        speakers: Mapping[str, str | None],
        views: Views = MappingProxyType({}),
    ) -> "Reading":
        """Open the features of a head; `speakers` of every utterance that will be read."""
        columns = {
            use.name: FeatureInput(caches[use.name], use.stride, use.layer, views.get(use.name, {}))
            for use in config.features
        }
        scores = {
            use.name: SpeakerScores(speakers, partial(read_moments, columns[use.name]))
            for use in config.features
            if use.normalize == "speaker"
        }
        return cls(columns, scores)

    def drawn_to(self, corpus: Mapping[str, Moments]) -> "Reading":
        """Return it with the statistics of speakers drawn to those of the training clips."""
        speakers = {name: scores.drawn_to(corpus[name]) for name, scores in self.speakers.items()}
        return replace(self, speakers=speakers)

    def lengths(self, clips: Clips) -> np.ndarray:
        """Return the frames of the longest feature, which a batch is padded to."""
        longest: np.ndarray = np.max(list(lengths_of(self.columns, clips).values()), axis=0)
        return longest

    def require(self, utterances: Sequence[str]) -> None:
        """Raise `UserError` for utterances that are not cached, or have no speaker statistics."""
        for column in self.columns.values():
            column.cache.require(utterances)
        for name, scores in self.speakers.items():
            unknown = scores.unknown(utterances)
            if unknown:
                raise UserError(
                    f"features.{name}: the speaker of '{unknown[0]}' is not known, and `normalize: "
                    "speaker` needs it; fit on a manifest that holds the utterance."
                )

    def features(
        self, batch: Batch, device: torch.device, copy: bool = False
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the frames and masks of a batch, on the device.

        They are valid as long as the batch, with `copy` for longer.
        """
        features = {}
        for name, read in batch.frames.items():
            mask, frames = mask_of(batch.lengths[name], read.shape[1]), read.to(device, copy=copy)
            if name in self.speakers:
                frames = self.speakers[name].apply(frames, batch.utterances)
            features[name] = (frames, mask.to(device))
        return features


def read_moments(column: FeatureInput, utterances: Sequence[str]) -> Moments:
    """Return the mean and deviation of the frames of utterances, as a head reads them."""
    mean, deviation = column.cache.moments(utterances)
    return side_by_side(mean, column.layers), side_by_side(deviation, column.layers)
