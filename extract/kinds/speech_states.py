"""Running the encoders of kind speech to hidden states."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from ser.extract.kinds.speech_families import Located
from ser.extract.layers import hidden

Arguments = dict[str, object]  # of a model's forward
SECOND = 100  # rows of log-mels: Qwen3's convolutions see one second each
FRAMES_OF_SECOND = 13
AST_FRAMES = 101


def run_encoder(
    model: Any, located: Located, states: tuple[int, int | str], inputs: Tensor, mask: Tensor
) -> Tensor:
    """Return the frames `(batch, frames, *item_shape)` of the layers of a policy.

    Args:
        model: the encoder.
        located: its row.
        states: how many layers it has, 0 where none can be chosen, and the policy.
        inputs: padded, `(batch, samples)` or `(batch, rows, bands)`.
        mask: `(batch, samples or rows)`, True where they are not padded.
    """
    arguments = arguments_of(located, inputs.to(model.dtype), mask)
    shape = SHAPES.get(str(located.config["model_type"]))
    layers, policy = states
    return hidden(model, layers + 1, policy, shape and partial(shape, mask), **arguments)


def arguments_of(located: Located, inputs: Tensor, mask: Tensor) -> Arguments:
    """Return the arguments of an encoder, or of its model, for inputs as `run_encoder` has."""
    family, kind = located.family, str(located.config["model_type"])
    arguments: Arguments = {family.input_name: inputs}
    if kind in ARGUMENTS:
        arguments = ARGUMENTS[kind](inputs, mask)
    if family.argument and family.takes_mask(located.config):
        arguments[family.argument] = mask.long()
    return arguments


def _images(inputs: Tensor, mask: Tensor) -> Arguments:
    """Return the log-mels of CLAP; no clip is longer than a window, so nothing is fused."""
    longer = torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device)
    return {"input_features": inputs.unsqueeze(1), "is_longer": longer}


def _seconds(inputs: Tensor) -> Tensor:
    """Pad rows `(batch, rows, bands)` to whole seconds, `(batch, bands, rows)`."""
    return pad(inputs.transpose(1, 2), (0, -inputs.shape[1] % SECOND))


def _qwen3_asr(inputs: Tensor, mask: Tensor) -> Arguments:
    rows = pad(mask, (0, -mask.shape[1] % SECOND)).long()
    return {"input_features": _seconds(inputs), "input_features_mask": rows}


def _qwen3_omni(inputs: Tensor, mask: Tensor) -> Arguments:
    """Return every second of a batch, padded to a whole one whatever is beside it."""
    sizes = mask.sum(1)
    padded = _seconds(inputs).unflatten(2, (-1, SECOND)).transpose(1, 2).flatten(0, 1)
    seconds = torch.arange(padded.shape[0] // len(sizes), device=sizes.device)
    lengths = (sizes[:, None] - SECOND * seconds).clamp(0, SECOND).flatten()
    counts = (lengths + 7) // 8
    valid = torch.arange(FRAMES_OF_SECOND, device=sizes.device) < counts[:, None]
    return {
        "input_features": None,
        "feature_lens": sizes,
        "padded_feature": padded,
        "chunk_lengths": lengths,
        "valid_indices": valid.flatten().nonzero().squeeze(1),
    }


def _bands_first(inputs: Tensor, mask: Tensor) -> Arguments:
    return {"input_features": inputs.transpose(1, 2)}


ARGUMENTS: dict[str, Callable[[Tensor, Tensor], Arguments]] = {
    "omniasr_audio": lambda inputs, _: {"input_values": inputs.unsqueeze(1)},
    "audio-spectrogram-transformer": lambda inputs, _: {"input_values": inputs},
    "granite_speech_encoder": lambda inputs, _: {"hidden_states": inputs},
    "voxtral_encoder": _bands_first,
    "glmasr_encoder": _bands_first,
    "qwen2_audio_encoder": _bands_first,
    "audioflamingo3_encoder": _bands_first,
    "clap_audio_model": _images,
    "qwen3_asr_encoder": _qwen3_asr,
    "qwen3_omni_moe_audio_encoder": _qwen3_omni,
}


def _halved(mask: Tensor, state: Tensor, last: bool) -> Tensor:
    """Average pairs of frames, as the encoder itself does after its last layer."""
    return state if last else state.unflatten(1, (-1, 2)).mean(2)


def _doubled(mask: Tensor, state: Tensor, last: bool) -> Tensor:
    """Repeat each frame of SEW's layers; its output has the learned frames between them."""
    frames = state.shape[1] // 2 * 2 if last else 2 * state.shape[1]
    whole: Tensor = state if last else state.repeat_interleave(2, dim=1)
    return whole[:, :frames]


def _over_bands(mask: Tensor, state: Tensor, last: bool) -> Tensor:
    """Average AST's patches of one time, without the two tokens for the whole."""
    patches: Tensor = state[:, 2:].unflatten(1, (-1, AST_FRAMES))
    return patches.mean(1)


def _over_frequencies(mask: Tensor, state: Tensor, last: bool) -> Tensor:
    return state.mean(2).transpose(1, 2)


def _unpacked(mask: Tensor, state: Tensor, last: bool) -> Tensor:
    """Split the frames of a batch, which come as one sequence, to its clips."""
    whole, rest = mask.sum(1) // SECOND, mask.sum(1) % SECOND
    counts = FRAMES_OF_SECOND * whole + (rest + 7) // 8
    return pad_sequence(list(state.split(counts.tolist())), batch_first=True)


SHAPES = {
    "sew": _doubled,
    "sew-d": _doubled,
    "qwen2_audio_encoder": _halved,
    "audioflamingo3_encoder": _halved,
    "audio-spectrogram-transformer": _over_bands,
    "clap_audio_model": _over_frequencies,
    "qwen3_asr_encoder": _unpacked,
    "qwen3_omni_moe_audio_encoder": _unpacked,
}
