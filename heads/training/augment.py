"""Augmentation in feature space: training clips changed on their way from the cache to the head.

mix-up     a clip's embedding and targets are share * its own + (1 - share) * a partner's, share
           from Beta(a, a) for each clip (Verma et al. 2019, "Manifold Mixup"; per clip and before
           the last layers as in the NTUA entry of 2025, MEDUSA, whose code decides once a batch:
           `mixup_of: batch`)
SeqAug     a random subset of the channels, all by one permutation, changes places in time; its
           share of the channels is from Beta(a, a) (Georgiou, Potamianos 2023, "SeqAug: Sequential
           Feature Resampling as a modality agnostic augmentation method"). Each feature of a clip
           has a subset and a permutation of its own
time mask  a span of the clip is set to zero, at the same place in all its features (Park et al.
           2019, "SpecAugment")

Random numbers come from numpy and are drawn clip after clip, for real frames only. So a batch, on
whatever device and however padded, is changed as its clips one after the other would be by the same
generator; padding stays what it is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ser.heads.config import Augment
from ser.heads.head import Features


@dataclass(frozen=True)
class Mixing:
    """The partner of each clip of a batch, int64 `(batch,)`, and the clip's own share."""

    partner: Tensor
    share: Tensor

    def of_embeddings(self, embedding: Tensor) -> Tensor:
        """Return the mixed embeddings `(batch, width)`."""
        share = self.share.to(embedding.device).unsqueeze(1)
        return share * embedding + (1 - share) * embedding[self.partner.to(embedding.device)]


def mixing(config: Augment, batch: int, rng: np.random.Generator) -> Mixing | None:
    """Draw the mix-up of a batch; share is 1 for an unmixed clip. None without mix-up."""
    if not config.mixup:
        return None
    share = rng.beta(config.mixup_alpha, config.mixup_alpha, batch)
    decisions = batch if config.mixup_of == "clip" else 1
    share = np.where(rng.random(decisions) < config.mixup, share, 1.0)
    partner = rng.permutation(batch)
    return Mixing(torch.from_numpy(partner), torch.from_numpy(share.astype(np.float32)))


def augment_features(
    config: Augment, features: Features, rng: np.random.Generator
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return features with some clips changed, `(batch, frames, [layers,] dim)`; masks are shared.

    The given frames are not modified.
    """
    if not (config.seqaug or config.time_mask):
        return dict(features)
    changed = {name: (frames.clone(), mask) for name, (frames, mask) in features.items()}
    lengths = [mask.sum(dim=1).tolist() for _, mask in features.values()]
    for clip, real in enumerate(zip(*lengths, strict=True)):
        pairs = zip(changed.values(), real, strict=True)
        unpadded = [frames[clip, :length] for (frames, _), length in pairs]
        if rng.random() < config.seqaug:
            share = rng.beta(config.seqaug_alpha, config.seqaug_alpha)
            for frames in unpadded:
                _permute(frames, share, rng)
        if rng.random() < config.time_mask:
            share, place = rng.random() * config.time_mask_share, rng.random()
            for frames in unpadded:
                span = int(share * len(frames))
                first = int(place * (len(frames) - span + 1))
                frames[first : first + span] = 0
    return changed


def _permute(frames: Tensor, share: float, rng: np.random.Generator) -> None:
    """Permute a share of the channels of `(frames, [layers,] dim)` in time, in place."""
    dim = frames.shape[-1]
    chosen = np.zeros(dim, dtype=bool)
    chosen[rng.permutation(dim)[: round(share * dim)]] = True
    order = torch.from_numpy(rng.permutation(len(frames))).to(frames.device)
    channels = torch.from_numpy(chosen).to(frames.device)
    frames.copy_(torch.where(channels, frames[order], frames))
