"""A trained head read back from its folder: no cache, no manifest, no labels.

    head = TrainedHead.load("runs/mine/heads/audio")
    head.predict({"whisper": [encode(frames, "float16")]})["logits"]

1. `head.json` has its config and sizes; every weights file is one module, folds are averaged.
2. Frames are rounded as the cache keeps them (`ser.cache.precision.encode`) and go through the
   cache reader's own code, so that a clip gets the same numbers as in its run.

`normalize: speaker` takes the statistics of the clips of a call that have the same speaker, drawn
to those of the training clips; a clip whose speaker is not known is the only one of its speaker.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ser.cache.precision import Encoded, moments
from ser.cache.reader import bucket
from ser.cache.strides import after_stride, as_layers, read_into, read_shape, side_by_side
from ser.corpus.errors import UserError
from ser.heads.config import HeadConfig
from ser.heads.feature_use import FeatureUse
from ser.heads.head import mask_of
from ser.heads.inputs import Moments, Prepared, SpeakerScores
from ser.heads.record import HeadRecord
from ser.heads.saved import SavedHead

BATCH = 64  # clips; no gradients are kept
Outputs = Mapping[str, np.ndarray]  # (utterances, width) of each output
Clips = Mapping[str, Sequence[Encoded]]  # of each feature the same clips, in the same order


class TrainedHead:
    """A trained head: what is saved of it, and the module of each training, on a device."""

    def __init__(self, saved: SavedHead, device: str = "cpu") -> None:
        self.saved, self.config, self.device = saved, saved.config, device
        self.modules = [
            _read_module(saved.folder / f"{part}.safetensors", saved.config, saved.record, device)
            for part in saved.record.weights
        ]

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "TrainedHead":
        """Read a head's folder; raises `UserError` when it is not whole."""
        return cls(SavedHead.read(folder), device)

    def predict(self, clips: Clips, speakers: Sequence[Hashable] | None = None) -> Outputs:
        """Return every output float32 `(clips, width)`: logits, attributes, ….

        Folds are averaged. Clips with equal `speakers` are of one speaker; without them each clip
        stands alone.
        """
        batches: list[list[tuple[list[int], dict[str, Tensor]]]] = [[] for _ in self.modules]
        with torch.inference_mode():
            for positions, inputs in self._batches(clips, speakers):
                for outputs, module, features in zip(batches, self.modules, inputs, strict=True):
                    outputs.append((positions, module(features)))
        return mean_outputs([_in_order(outputs) for outputs in batches])

    def attention(
        self, clips: Clips, speakers: Sequence[Hashable] | None = None
    ) -> dict[str, list[np.ndarray]]:
        """Return the weights of the attention pooling: by feature, float32 `(frames,)` per clip.

        Frames are those after the stride; the weights of a clip sum to 1. Features that are not
        pooled by attention are left out.
        """
        attention: dict[str, list[np.ndarray]] = {}
        with torch.inference_mode():
            for positions, inputs in self._batches(clips, speakers):
                folds = [m.attention_of(f) for m, f in zip(self.modules, inputs, strict=True)]
                for name in folds[0]:
                    mean = torch.stack([weights[name] for weights in folds]).mean(0).float().cpu()
                    by_clip = attention.setdefault(name, [np.empty(0)] * len(clips[name]))
                    for row, i in zip(mean, positions, strict=True):
                        by_clip[i] = row[: self._length(name, clips[name][i])].numpy()
        return attention

    def _length(self, name: str, clip: Encoded) -> int:
        stride = next(use.stride for use in self.config.features if use.name == name)
        return -(-len(clip.data) // stride)

    def _batches(
        self, clips: Clips, speakers: Sequence[Hashable] | None
    ) -> Iterator[tuple[list[int], list[dict[str, tuple[Tensor, Tensor]]]]]:
        """Yield the positions of a batch, and its features as each module reads them."""
        uses = self.config.features
        lengths = [np.array([self._length(use.name, c) for c in clips[use.name]]) for use in uses]
        scores = {
            use.name: self._speaker_scores(use, clips[use.name], speakers)
            for use in uses
            if use.normalize == "speaker"
        }
        for positions in bucket(range(len(lengths[0])), np.max(lengths, axis=0), BATCH, None):
            inputs: list[dict[str, tuple[Tensor, Tensor]]] = [{} for _ in self.modules]
            for use in uses:
                frames, mask = self._padded(use, [clips[use.name][i] for i in positions])
                by_module = scores.get(use.name)
                for i, features in enumerate(inputs):
                    x = frames if by_module is None else by_module[i].apply(frames, positions)
                    features[use.name] = x, mask
            yield positions, inputs

    def _speaker_scores(
        self, use: FeatureUse, clips: Sequence[Encoded], speakers: Sequence[Hashable] | None
    ) -> list[SpeakerScores[int]]:
        """Return the scores for each module, drawn to the statistics of its training clips."""
        names, layers = range(len(clips)) if speakers is None else speakers, as_layers(use.layer)

        def moments_of(positions: Sequence[int]) -> Moments:
            mean, deviation = moments(clips[0].data.shape[1:], [clips[i] for i in positions])
            return side_by_side(mean, layers), side_by_side(deviation, layers)

        scores = SpeakerScores({i: (name,) for i, name in enumerate(names)}, moments_of)
        return [scores.drawn_to(module.moments_of(use.name)) for module in self.modules]

    def _padded(self, use: FeatureUse, clips: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
        """Read clips as a head does: `(batch, frames, *item_shape)` float32, and the mask."""
        layers = as_layers(use.layer)
        lengths = after_stride(np.array([len(clip.data) for clip in clips]), use.stride)
        shape = read_shape(clips[0].data.shape[1:], layers)
        frames = torch.empty(len(clips), int(lengths.max()), *shape)
        for row, clip in zip(frames, clips, strict=True):
            read_into(row, clip, use.stride, layers)
        mask = mask_of(torch.from_numpy(lengths), frames.shape[1])
        return frames.to(self.device), mask.to(self.device)


def mean_outputs(outputs: Sequence[Outputs]) -> dict[str, np.ndarray]:
    """Return the mean outputs of several trainings of a head."""
    return {name: np.mean([out[name] for out in outputs], axis=0) for name in outputs[0]}


def _read_module(path: Path, config: HeadConfig, record: HeadRecord, device: str) -> Prepared:
    frames, outputs = record.frames, record.outputs
    unknown = {
        use.name: (np.zeros(frames[use.name]), np.ones(frames[use.name]))
        for use in config.features
        if use.normalize != "none"  # the weights hold the numbers
    }
    try:
        # shapes alone: nothing larger than the file is ever made; a user's head may compute
        with suppress(NotImplementedError), torch.device("meta"):
            _require_same_shapes(path, Prepared.build(config, frames, outputs, unknown))
        module = Prepared.build(config, frames, outputs, unknown)
        tensors = load_file(path)
        _require_finite(tensors)
        module.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{path}: the weights are missing, damaged or of another head "
            f"({str(error).splitlines()[0].rstrip('.:')}); train the head again with `ser heads "
            f"train {record.head} --force`."
        ) from error
    return module.to(device).eval()


def _require_same_shapes(path: Path, module: Prepared) -> None:
    """Raise `RuntimeError` where a file has other tensors than a module."""
    with safe_open(path, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name in sorted({**shapes, **expected}):
        if shapes.get(name) != expected.get(name):
            raise RuntimeError(f"{name[:100]} is {shapes.get(name)}, not {expected.get(name)}")


def _require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise `RuntimeError` for a weight that is NaN or infinite: its outputs mean nothing."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise RuntimeError(f"{name[:100]} has numbers that are not finite")


def _in_order(batches: Sequence[tuple[list[int], dict[str, Tensor]]]) -> dict[str, np.ndarray]:
    order = np.argsort([i for positions, _ in batches for i in positions])
    names = list(batches[0][1])
    return {
        name: np.concatenate([out[name].float().cpu().numpy() for _, out in batches])[order]
        for name in names
    }
