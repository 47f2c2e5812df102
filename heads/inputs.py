"""The inputs of every head: its features standardised, their layers summed.

Both are saved with the head, so that prediction treats a clip as training did. The standard
scores of `normalize: corpus` are those of the module; those of `normalize: speaker` depend on the
speaker, which a module does not know: they are taken before (`SpeakerScores`). For these the module
keeps the statistics of the training clips, which those of a speaker are drawn to.
"""

import copy
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ser.corpus.errors import UserError
from ser.corpus.registry import origin
from ser.heads.config import HeadConfig
from ser.heads.feature_use import PRIOR_CLIPS
from ser.heads.head import Features, Mix, PoolsByAttention, Widths, build_head

Moments = tuple[np.ndarray, np.ndarray]  # mean and deviation, of the shape of one frame
ClipT = TypeVar("ClipT", bound=Hashable)  # what names a clip
CHOSEN = 1000.0  # a weight whose softmax among zeros is exactly 1


def drawn_to_corpus(speakers: Moments, clips: np.ndarray, corpus: Moments) -> Moments:
    """Return the statistics of speakers, drawn to the corpus's the more the fewer clips they have.

    Args:
        speakers: mean and deviation of each speaker's frames, `(speakers, *item_shape)`.
        clips: how many clips they are of, `(speakers,)`.
        corpus: mean and deviation of all training frames, `item_shape`.

    The weight of the speaker is n / (n + 2) with n clips: the posterior mean of a normal prior
    (Gelman et al. 2013, "Bayesian Data Analysis", section 2.5) that is worth two clips. One clip
    contains words and emotion as much as the speaker; its own statistics would remove all three.
    """
    weight = (clips / (clips + PRIOR_CLIPS)).reshape(-1, *[1] * corpus[0].ndim)
    mean, deviation = (
        weight * own + (1 - weight) * of_all for own, of_all in zip(speakers, corpus, strict=True)
    )
    return mean, deviation


class SpeakerScores(Generic[ClipT]):
    """The mean and deviation of each speaker's frames, of one feature.

    `speakers` names the speaker of each clip that will be read, None where unknown: such a clip is
    the only one of its speaker. `moments_of` returns the statistics of the frames of clips.
    """

    def __init__(
        self,
        speakers: Mapping[ClipT, Hashable | None],
        moments_of: Callable[[Sequence[ClipT]], Moments],
    ) -> None:
        clips: dict[Hashable, list[ClipT]] = {}
        for clip, speaker in speakers.items():
            clips.setdefault(("speaker", speaker) if speaker else clip, []).append(clip)
        self._row = {clip: i for i, of_one in enumerate(clips.values()) for clip in of_one}
        self._clips = np.array([len(of_one) for of_one in clips.values()])
        moments = [moments_of(of_one) for of_one in clips.values()]
        mean, deviation = (np.stack([values[i] for values in moments]) for i in (0, 1))
        self._moments = mean, deviation

    def drawn_to(self, corpus: Moments) -> Self:
        """Return the scores by statistics that are drawn to these of the training clips."""
        drawn = copy.copy(self)
        drawn._moments = drawn_to_corpus(self._moments, self._clips, corpus)
        return drawn

    def unknown(self, clips: Sequence[ClipT]) -> list[ClipT]:
        """List the clips that have no statistics."""
        return [clip for clip in clips if clip not in self._row]

    def apply(self, frames: Tensor, clips: Sequence[ClipT]) -> Tensor:
        """Return the standard scores of the frames `(batch, frames, ...)` of clips."""
        at = [self._row[clip] for clip in clips]
        mean, deviation = (
            torch.from_numpy(values[at].astype(np.float32)).to(frames.device).unsqueeze(1)
            for values in self._moments
        )
        return (frames - mean) / deviation


class FeatureInput(nn.Module):
    """A feature's way into a head: standardised, and its layers summed, where configured.

    With `layers` above 0 frames are `(batch, frames, layers, dim)` and the layers are summed with
    weights that are a softmax of learned numbers, all equal at first (Yang et al. 2021, "SUPERB",
    section 3), or with `free` the learned numbers themselves. Frames that come as scores of their
    speakers are not standardised again.
    """

    def __init__(
        self, layers: int, moments: Moments | None, by_speaker: bool = False, free: bool = False
    ) -> None:
        super().__init__()
        self.by_speaker, self.free = by_speaker, free
        first = torch.full((layers,), 1 / layers if free and layers else 0.0)
        self.layer_weights = nn.Parameter(first) if layers else None
        mean, deviation = moments or (None, None)
        self.register_buffer("mean", _float32(mean))
        self.register_buffer("deviation", _float32(deviation))

    def standardised(self, frames: Tensor) -> Tensor:
        """Return frames of the same shape, with all layers."""
        if self.mean is None or self.by_speaker:
            return frames
        return (frames - self.get_buffer("mean")) / self.get_buffer("deviation")

    def choose(self, layer: int) -> None:
        """Give one layer all the weight."""
        assert self.layer_weights is not None
        with torch.no_grad():
            self.layer_weights.zero_()[layer] = CHOSEN

    def forward(self, frames: Tensor) -> Tensor:
        """Return `(batch, frames, dim)`."""
        frames = self.standardised(frames)
        if self.layer_weights is None:
            return frames
        weights = self.layer_weights if self.free else self.layer_weights.softmax(dim=0)
        return torch.einsum("btld,l->btd", frames, weights)


class Prepared(nn.Module):
    """A head behind the inputs of its features, by their names.

    `outputs` are the widths of what the head must return.
    """

    def __init__(
        self, head: nn.Module, inputs: Mapping[str, FeatureInput], outputs: Widths
    ) -> None:
        super().__init__()
        self.head, self.outputs, self._proven = head, dict(outputs), False
        self.names, self.inputs = list(inputs), nn.ModuleList(inputs.values())

    @classmethod
    def build(
        cls,
        config: HeadConfig,
        shapes: Mapping[str, Sequence[int]],
        outputs: Widths,
        moments: Mapping[str, Moments] = MappingProxyType({}),
    ) -> Self:
        """Build the head of a config behind its inputs.

        `shapes` are those of one frame of each feature, `(dim,)` or `(layers, dim)`. Raises
        `UserError` as `build_head` does.
        """
        head, inputs = build_head(config, {n: s[-1] for n, s in shapes.items()}, outputs), {}
        for use in config.features:
            shape = shapes[use.name]
            layers = shape[0] if len(shape) > 1 else 0
            by_speaker, free = use.normalize == "speaker", use.layer_sum == "free"
            inputs[use.name] = FeatureInput(layers, moments.get(use.name), by_speaker, free)
        return cls(head, inputs, outputs)

    def forward(self, features: Features, *mix: Mix) -> dict[str, Tensor]:
        """Return what the head returns.

        Raises `UserError` when that is not a tensor `(batch, width)` for each output, and in the
        first batch of a training for numbers that are not finite.
        """
        if mix and len(inspect.signature(self.head.forward).parameters) < 2:
            raise self._error(
                "takes no `mix`, which augment.mixup needs; derive its class from "
                "ser.heads.head.Head, or set augment.mixup: 0"
            )
        outputs = self.head(self._prepared(features), *mix)
        self._check(outputs, next(iter(features.values()))[0].shape[0])
        return dict(outputs)

    def _check(self, outputs: object, batch: int) -> None:
        if not isinstance(outputs, Mapping):
            widths = ", ".join(f"'{name}': …" for name in self.outputs)
            raise self._error(f"returned a {type(outputs).__name__}; return a dict {{{widths}}}")
        for name, width in self.outputs.items():
            if name not in outputs:
                raise self._error(f"returned no '{name}'; return it, or use losses that need none")
            value, expected = outputs[name], (batch, width)
            if not isinstance(value, Tensor) or value.shape != expected:
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise self._error(f"returned '{name}' as {shape}; return (batch, width) {expected}")
        if self.training and not self._proven:
            self._proven = True
            for name in self.outputs:
                if not outputs[name].isfinite().all():
                    raise self._error(
                        f"returned NaN or infinite '{name}' before its first training step; leave "
                        "padded frames out of divisions, logarithms and softmax"
                    )

    def _error(self, problem: str) -> UserError:
        return UserError(f"the head {origin(type(self.head))} {problem}.")

    def attention_of(self, features: Features) -> dict[str, Tensor]:
        """Return the head's attention by feature; empty for a head without attention."""
        if not isinstance(self.head, PoolsByAttention):
            return {}
        return self.head.attention_of(self._prepared(features))

    def moments_of(self, name: str) -> Moments:
        """Return mean and deviation of the training frames of a feature, float32."""
        take = self.inputs[self.names.index(name)]
        mean, deviation = (take.get_buffer(n).cpu().numpy() for n in ("mean", "deviation"))
        return mean, deviation

    def _prepared(self, features: Features) -> dict[str, tuple[Tensor, Tensor]]:
        return {
            name: (take(features[name][0]), features[name][1])
            for name, take in zip(self.names, self.inputs, strict=True)
        }


def _float32(values: np.ndarray | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values.astype(np.float32))
