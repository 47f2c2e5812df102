"""Augmentation in feature space: training clips changed on their way from the cache to the head.

mix-up     a clip's embedding and targets are share * its own + (1 - share) * a partner's, share
           from Beta(a, a) for each clip (Verma et al. 2019, "Manifold Mixup"; per clip and before
           the last layers as in the NTUA entry of 2025, MEDUSA)
SeqAug     a random subset of the channels, all by one permutation, changes places in time; its
           share of the channels is from Beta(a, a) (Georgiou, Potamianos 2023, "SeqAug: Sequential
           Feature Resampling as a modality agnostic augmentation method"). Each feature of a clip
           has a subset and a permutation of its own
time mask  a span of the clip is set to zero, at the same place in all its features (Park et al.
           2019, "SpecAugment")

Random numbers come from numpy and are drawn clip after clip, for real frames only. So a batch, on
whatever device and however padded, is changed as its clips one after the other would be by the same
generator; padding stays what it is. What is drawn is small, and what is done with it is one
operation over the batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heads.config import Augment
from heads.head import Features


@dataclass(frozen=True)
class Mixing:
    """Hold with whom each clip of a batch is mixed: int64 `(batch,)`, and its own share there."""

    partner: Tensor
    share: Tensor

    def of_embeddings(self, embedding: Tensor) -> Tensor:
        """Return the mixed embeddings `(batch, width)`."""
        share = self.share.to(embedding.device).unsqueeze(1)
        return share * embedding + (1 - share) * embedding[self.partner.to(embedding.device)]


def mixing(config: Augment, batch: int, rng: np.random.Generator) -> Mixing | None:
    """Draw the mix-up of a batch; share is 1 for a clip that is left alone. None without mix-up."""
    if not config.mixup:
        return None
    share = rng.beta(config.mixup_alpha, config.mixup_alpha, batch)
    share = np.where(rng.random(batch) < config.mixup, share, 1.0)
    partner = rng.permutation(batch)
    return Mixing(torch.from_numpy(partner), torch.from_numpy(share.astype(np.float32)))


def augment_features(
    config: Augment, features: Features, rng: np.random.Generator
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return features with some clips changed, `(batch, frames, [layers,] dim)`; masks are shared.

    The frames given are not written to.
    """
    if not (config.seqaug or config.time_mask):
        return dict(features)
    lengths = {name: mask.sum(dim=1).tolist() for name, (_, mask) in features.items()}
    plans = {
        name: _Plan(*frames.shape[:2], frames.shape[-1]) for name, (frames, _) in features.items()
    }
    for clip in range(len(next(iter(lengths.values())))):
        frames = {name: each[clip] for name, each in lengths.items()}
        if rng.random() < config.seqaug:
            share = rng.beta(config.seqaug_alpha, config.seqaug_alpha)
            for name, plan in plans.items():
                plan.permute(clip, frames[name], share, rng)
        if rng.random() < config.time_mask:
            width = rng.random() * config.time_mask_share
            start = rng.random() * (1 - width)
            for name, plan in plans.items():
                plan.hide(clip, int(start * frames[name]), int(width * frames[name]))
    return {name: (plans[name].apply(frames), mask) for name, (frames, mask) in features.items()}
