"""Frames of wav2vec 2.0, XLS-R, HuBERT, WavLM and w2v-BERT 2.0: 50 Hz, any layer.

1. Normalise the whole clip the way the model was trained: the waveform to mean 0 and variance 1;
   for w2v-BERT each band of its log-mels.
2. Cut what is longer than `chunk` seconds into chunks of that length, `overlap` seconds shared.
3. Run a few chunks at a time, so that memory is bounded by the chunk, not by the clip.
4. Join: a seam lies in the middle of an overlap, and every frame occurs once, as many as in one
   run over the whole clip.

What joined frames owe to the cut: nothing at layer 0 of a layer-norm model (convolutions only, and
the widest hears 1.28 s on either side, less than half the default overlap). Above, attention hears
its own chunk instead of the whole clip: frames come near those of one run and never equal them. A
group norm averages over its own chunk too, so there all layers differ, by about a tenth.

Models with a layer-norm feature encoder (the large ones) take an attention mask, so clips of any
length share a batch. Group-norm ones (wav2vec2-base, hubert-base, wavlm-base) average over time
before any mask applies, and a wav2vec2-conformer convolves over its padding: there, only equal
lengths share a batch.
"""

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from ser.corpus.errors import UserError
from ser.extract.extractor import (
    SAMPLE_RATE,
    Extractor,
    FeatureOptions,
    ModelOptions,
    device_type,
    extractor,
)
from ser.extract.layers import hidden, item_shape

HOP = 320  # samples from one frame to the next: 20 ms
FIELD = 400  # samples behind one frame, or behind one row of log-mels: 25 ms
MEL_HOP = 160  # samples from one row of log-mels to the next; w2v-BERT stacks two
TOGETHER = 4  # chunks in one run of the model


class SpeechOptions(ModelOptions):
    """Options of `kind: speech`; `chunk` and `overlap` are seconds."""

    chunk: float = Field(default=30.0, ge=1.0, le=3600.0)
    overlap: float = Field(default=2.6, ge=0.0, le=1800.0)

    @model_validator(mode="after")
    def _shorter(self) -> "SpeechOptions":
        if self.overlap > self.chunk / 2:
            raise ValueError(f"`overlap` is at most half of `chunk` ({self.chunk / 2:g} s)")
        return self


@extractor("speech")
class Speech(Extractor):
    """Extract hidden states of a self-supervised speech encoder."""

    Options: ClassVar[type[FeatureOptions]] = SpeechOptions
    frame_rate: float = SAMPLE_RATE / HOP

    def load(self, device: str) -> None:
        """Load the model and its own normalisation."""
        import torch
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

        assert self.weights is not None
        folder = self.weights.folder
        config = AutoConfig.from_pretrained(folder)
        config.add_adapter = False  # it would thin out the frames
        require_speech(self.options.model, config)
        self._device = device
        self._dtype = torch.bfloat16 if device_type(device) == "cuda" else torch.float32
        self._normalise = AutoFeatureExtractor.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, config=config, dtype=self._dtype)
        self._model.eval().to(device)
        self._states = int(config.num_hidden_layers) + 1
        self.item_shape = item_shape(self._states, int(config.hidden_size), self.options.layer)
        if self.options.compile:
            self._model = torch.compile(self._model, dynamic=True)

    def batch_key(self, size: int) -> Hashable:
        """Return the exact length of what is run where the model cannot be masked."""
        return None if self._masked else min(size, (self._chunk - 1) * HOP + FIELD)

    def cost(self, size: int) -> float:
        """Return the frames of all chunks."""
        chunks = len(self._cuts(size))
        return super().cost(size) if chunks == 1 else float(chunks * self._chunk)

    @cached_property
    def _config(self) -> dict[str, Any]:
        assert self.weights is not None
        config: dict[str, Any] = json.loads((self.weights.folder / "config.json").read_text())
        return config

    @property
    def _mels(self) -> bool:
        return reads_mels(self._config)

    @property
    def _masked(self) -> bool:
        return takes_mask(self._config)

    @property
    def _chunk(self) -> int:
        seconds: float = self.options.chunk
        return round(seconds * self.frame_rate)

    def _cuts(self, size: int) -> list[tuple[int, slice]]:
        frames = frames_of(size, self._mels)
        return cuts(frames, self._chunk, round(self.options.overlap * self.frame_rate))

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the frames of each waveform, as many as one run over all of it gives."""
        require_samples(batch, self._mels)
        step, field = (1, 1) if self._mels else (HOP, FIELD)
        span = (self._chunk - 1) * step + field
        pieces: list[np.ndarray] = []
        keep: list[tuple[int, slice]] = []
        for i, wave in enumerate(batch):
            inputs = normalised(self._normalise, wave, self._mels)
            for start, kept in self._cuts(len(wave)):
                pieces.append(inputs[start * step : start * step + span])
                keep.append((i, kept))
        parts: list[list[np.ndarray]] = [[] for _ in batch]
        most = TOGETHER if len(pieces) > len(batch) else len(pieces)
        for run in runs([len(piece) for piece in pieces], self._masked, most):
            for position, frames in zip(run, self._run([pieces[p] for p in run]), strict=True):
                i, kept = keep[position]
                parts[i].append(frames[kept])
        return [np.concatenate(frames) for frames in parts]

    def _run(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        """Run the model on padded pieces; returns float32 `(pieces, frames, *item_shape)`."""
        import torch

        inputs = model_inputs(pieces, self._mels, self._masked, self._device, self._dtype)
        with torch.inference_mode():
            chosen = hidden(self._model, self._states, self.options.layer, **inputs)
            frames: np.ndarray = chosen.float().cpu().numpy()
        return frames


def require_samples(batch: Sequence[np.ndarray], mels: bool) -> None:
    """Raise `ValueError` for a waveform that is shorter than one frame."""
    least = FIELD + MEL_HOP if mels else FIELD
    short = min(len(wave) for wave in batch)
    if short < least:
        raise ValueError(f"{short} samples are fewer than one frame needs ({least})")


def runs(lengths: Sequence[int], masked: bool, most: int) -> Iterator[list[int]]:
    """Group pieces by position, in their order within a clip, into runs of at most `most`.

    Where the model cannot be `masked`, the pieces of a run are equally long.
    """
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        groups.setdefault(0 if masked else length, []).append(i)
    for group in groups.values():
        yield from (group[i : i + most] for i in range(0, len(group), most))


def model_inputs(
    pieces: Sequence[np.ndarray], mels: bool, masked: bool, device: str, dtype: Any
) -> dict[str, Any]:
    """Return padded pieces as a model takes them, of a torch `dtype`, and the mask where it may."""
    import torch

    shape = (len(pieces), max(map(len, pieces)))
    padded = np.zeros((*shape, *pieces[0].shape[1:]), np.float32)
    mask = np.zeros(shape, np.int32)
    for i, piece in enumerate(pieces):
        padded[i, : len(piece)], mask[i, : len(piece)] = piece, 1
    return {
        "input_features" if mels else "input_values": torch.from_numpy(padded).to(device, dtype),
        "attention_mask": torch.from_numpy(mask).to(device) if masked else None,
    }


def reads_mels(config: Mapping[str, Any]) -> bool:
    """Return whether a model reads log-mels instead of the waveform, from its config.json."""
    return bool(config["model_type"] == "wav2vec2-bert")


def takes_mask(config: Mapping[str, Any]) -> bool:
    """Return whether clips of different lengths may share a batch, from a model's config.json."""
    if config["model_type"] == "wav2vec2-conformer":
        return False
    return reads_mels(config) or bool(config.get("feat_extract_norm") == "layer")


def frames_of(samples: int, mels: bool) -> int:
    """Return how many frames a model has for a clip; `mels` is the result of `reads_mels`."""
    rows = (samples - FIELD) // MEL_HOP + 1
    return rows // 2 if mels else (rows + 1) // 2


def require_speech(model: str, config: Any) -> None:
    """Raise `UserError` unless a model's config (transformers) is of this kind, at 50 Hz."""
    supported = config.model_type == "wav2vec2-bert" or (
        getattr(config, "feat_extract_norm", None) in ("layer", "group")
    )
    if not supported or config.inputs_to_logits_ratio != HOP:
        raise UserError(
            f"{model}: a {config.model_type} model is not of kind speech, which takes wav2vec 2.0, "
            "HuBERT, WavLM and w2v-BERT 2.0 at 50 Hz."
        )


def normalised(normalise: Any, wave: np.ndarray, mels: bool) -> np.ndarray:
    """Return what a model reads of a clip, float32, by its own feature extractor.

    That is the waveform `(samples,)`, or with `mels` pairs of log-mel rows `(frames, 160)`.
    """
    inputs = normalise(wave, sampling_rate=SAMPLE_RATE, return_tensors="np")
    if not mels:
        return np.asarray(inputs["input_values"][0], np.float32)
    whole = int(inputs["attention_mask"][0].sum())  # a last odd row is no frame
    return np.asarray(inputs["input_features"][0, :whole], np.float32)


def cuts(frames: int, chunk: int, overlap: int) -> list[tuple[int, slice]]:
    """Return each chunk's first frame, and which of its frames to keep; all are counts of frames.

    Every chunk has the same length: the last one ends with the clip and overlaps by more. A kept
    frame is at least `overlap // 2` frames away from where its chunk was cut.
    """
    if frames <= chunk:
        return [(0, slice(0, frames))]
    starts = [*range(0, frames - chunk, chunk - overlap), frames - chunk]
    seams = [0, *((before + chunk + after) // 2 for before, after in pairwise(starts)), frames]
    return [(s, slice(a - s, b - s)) for s, (a, b) in zip(starts, pairwise(seams), strict=True)]
