"""A trained head read back from its folder: no cache, no manifest, no labels.

    head = TrainedHead.load("runs/mine/heads/audio")
    head.ask({"whisper": [encode(frames, "float16")]})["logits"]

1. `head.json` says how it is built; every weights file is one module, folds are averaged.
2. Frames come rounded as the cache keeps them (`cache.precision.encode`) and go through the cache
   reader's own code, so that a clip gets the numbers here that it got in its run.

`normalize: speaker` needs to know who speaks: the clips of one call are all of one speaker, or each
has only itself to be compared with.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cache.precision import Encoded, moments
from cache.reader import (
    after_stride,
    as_layers,
    bucket,
    read_into,
    read_shape,
    side_by_side,
)
from corpus.errors import UserError
from heads.config import FeatureUse, HeadConfig, parse_head
from heads.head import build_head, mask_of
from heads.inputs import Prepared
from heads.job import read_done

BATCH = 64  # clips; no gradients are kept
Outputs = Mapping[str, np.ndarray]  # (utterances, width) of each output
Clips = Mapping[str, Sequence[Encoded]]  # of each feature the same clips, in the same order


@dataclass(frozen=True)
class TrainedHead:
    """Hold a head that was trained; `made_of` are the fingerprints of its features' caches."""

    name: str
    fingerprint: str
    config: HeadConfig
    classes: tuple[str, ...]
    made_of: Mapping[str, str]
    modules: Sequence[Prepared]
    device: str

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "TrainedHead":
        """Read a head's folder; raises `UserError` when it is not whole."""
        folder = Path(folder)
        done = read_done(folder.parent.parent, folder.name)
        if not done:
            raise UserError(
                f"{folder / 'head.json'}: the head is not trained; run `ser heads train "
                f"{folder.name}`."
            )
        architecture = done["config"].pop("architecture")
        config = parse_head(done["config"] | architecture)
        modules = [
            _read_module(folder / f"{part}.safetensors", config, done, device)
            for part in done["weights"]
        ]
        made_from = done["made_from"]
        classes, made_of = tuple(made_from["classes"]), made_from["features"]
        return cls(folder.name, done["fingerprint"], config, classes, made_of, modules, device)

    @property
    def classifies(self) -> bool:
        """Tell whether it has logits of the classes."""
        return "logits" in self.config.gives

    @property
    def attributes(self) -> tuple[str, ...]:
        """Return the attributes that it predicts."""
        return self.config.attributes if "attributes" in self.config.gives else ()

    def ask(self, clips: Clips, one_speaker: bool = False) -> Outputs:
        """Return every output float32 `(clips, width)`: logits, attributes, ….

        Folds are averaged. `one_speaker` says that all clips are of one speaker.
        """
        found: list[list[tuple[list[int], dict[str, Tensor]]]] = [[] for _ in self.modules]
        with torch.inference_mode():
            for positions, features in self._batches(clips, one_speaker):
                for of_module, module in zip(found, self.modules, strict=True):
                    of_module.append((positions, module(features)))
        return mean_outputs([_in_order(of_module) for of_module in found])

    def looked(self, clips: Clips, one_speaker: bool = False) -> dict[str, list[np.ndarray]]:
        """Return where the attention pooling looked: of each feature, float32 `(frames,)` a clip.

        Frames are those after the stride; the weights of a clip sum to 1. Features that are not
        pooled by attention are left out.
        """
        found: dict[str, list[np.ndarray]] = {}
        with torch.inference_mode():
            for positions, features in self._batches(clips, one_speaker):
                each = [module.pooling_weights(features) for module in self.modules]
                for name in each[0]:
                    mean = torch.stack([weights[name] for weights in each]).mean(0).float().cpu()
                    of_clips = found.setdefault(name, [np.empty(0)] * len(clips[name]))
                    for row, i in zip(mean, positions, strict=True):
                        of_clips[i] = row[: self._length(name, clips[name][i])].numpy()
        return found

    def _length(self, name: str, clip: Encoded) -> int:
        stride = next(use.stride for use in self.config.features if use.name == name)
        return -(-len(clip.data) // stride)

    def _batches(
        self, clips: Clips, one_speaker: bool
    ) -> Iterator[tuple[list[int], dict[str, tuple[Tensor, Tensor]]]]:
        uses = self.config.features
        frames = [np.array([self._length(use.name, c) for c in clips[use.name]]) for use in uses]
        scores = {
            use.name: _speaker_moments(use, clips[use.name], one_speaker)
            for use in uses
            if use.normalize == "speaker"
        }
        for positions in bucket(range(len(frames[0])), np.max(frames, axis=0), BATCH, None):
            features = {}
            for use in uses:
                read, mask = _padded(use, [clips[use.name][i] for i in positions])
                if use.name in scores:
                    mean, deviation = (of[positions].unsqueeze(1) for of in scores[use.name])
                    read = (read - mean) / deviation
                features[use.name] = read.to(self.device), mask.to(self.device)
            yield positions, features


def mean_outputs(outputs: Sequence[Outputs]) -> dict[str, np.ndarray]:
    """Return the mean of what several trainings of a head say."""
    return {name: np.mean([out[name] for out in outputs], axis=0) for name in outputs[0]}


def _read_module(path: Path, config: HeadConfig, done: Mapping[str, Any], device: str) -> Prepared:
    frames: Mapping[str, list[int]] = done["frames"]
    head = build_head(config, {name: shape[-1] for name, shape in frames.items()}, done["outputs"])
    unknown = {
        use.name: (np.zeros(frames[use.name]), np.ones(frames[use.name]))
        for use in config.features
        if use.normalize == "corpus"  # the weights hold the numbers
    }
    layers = {name: shape[0] if len(shape) > 1 else 0 for name, shape in frames.items()}
    module = Prepared(head, layers, unknown)
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{path}: the weights are missing, damaged or of another head "
            f"({str(error).splitlines()[0].rstrip('.:')}); train the head again with `ser heads "
            f"train {done['head']} --force`."
        ) from error
    return module.to(device).eval()


def _padded(use: FeatureUse, clips: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Read clips as a head does: `(batch, frames, *item_shape)` float32, and the mask."""
    layers = as_layers(use.layer)
    lengths = after_stride(np.array([len(clip.data) for clip in clips]), use.stride)
    shape = read_shape(clips[0].data.shape[1:], layers)
    frames = torch.empty(len(clips), int(lengths.max()), *shape)
    for row, clip in zip(frames, clips, strict=True):
        read_into(row, clip, use.stride, layers)
    return frames, mask_of(torch.from_numpy(lengths), frames.shape[1])


def _speaker_moments(
    use: FeatureUse, clips: Sequence[Encoded], one_speaker: bool
) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation `(clips, *item_shape)` of who speaks in each clip."""
    shape = clips[0].data.shape[1:]
    groups = [clips] if one_speaker else [[clip] for clip in clips]
    each = [moments(shape, group) for group in groups]
    mean, deviation = (
        side_by_side(np.stack([of[i] for of in each]), as_layers(use.layer)).astype(np.float32)
        for i in (0, 1)
    )
    repeats = len(clips) if one_speaker else 1
    return (
        torch.from_numpy(np.repeat(mean, repeats, axis=0)),
        torch.from_numpy(np.repeat(deviation, repeats, axis=0)),
    )


def _in_order(batches: Sequence[tuple[list[int], dict[str, Tensor]]]) -> dict[str, np.ndarray]:
    order = np.argsort([i for positions, _ in batches for i in positions])
    names = list(batches[0][1])
    return {
        name: np.concatenate([out[name].float().cpu().numpy() for _, out in batches])[order]
        for name in names
    }
