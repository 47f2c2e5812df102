"""Loading the encoders of kind speech, and running them to hidden states."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers.integrations.peft import MIN_PEFT_VERSION
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.output_capturing import capture_outputs
from transformers.utils.peft_utils import check_peft_version

from ser.corpus.errors import UserError
from ser.corpus.registry import reason
from ser.extract.kinds.dasheng_model import load_dasheng
from ser.extract.kinds.emotion2vec_model import load_emotion2vec
from ser.extract.kinds.spear_model import load_spear
from ser.extract.kinds.speech_families import Family, Located
from ser.extract.layers import hidden

SECOND = 100  # rows of log-mels: Qwen3's convolutions see one second each
FRAMES_OF_SECOND = 13
AST_FRAMES = 101
OWN_MODULES = {"emotion2vec": load_emotion2vec, "dasheng": load_dasheng, "spear": load_spear}

# of training alone
NOT_NEEDED = {"masked_spec_embed", "objective.weight"}
NOT_NEEDED |= {f"{part}.masked_spec_embed" for part in ("wav2vec2", "wavlm", "unispeech_sat")}


def load_encoder(
    model: str, folder: Path, located: Located, dtype: torch.dtype, changes: Mapping[str, object]
) -> Any:
    """Load an encoder, alone or out of a larger model, whose other tensors are left on disk.

    Args:
        model: as the user named it.
        folder: that of the weights.
        located: the encoder.
        dtype: of its weights.
        changes: of its config, where that has the key.

    Raises `UserError` for weights that cannot be read, or lack a tensor: it would be random.
    """
    own = OWN_MODULES.get(str(located.config["model_type"]))
    if own is not None:
        return own(folder).to(dtype)
    name = located.family.encoder
    options: dict[str, object] = {}
    if located.tensors:
        options["key_mapping"] = {rf"^(?:model\.|thinker\.)*{located.tensors}\.": ""}
    with named_errors(model):
        if name:
            cls = class_of(name)
            config = _config_of(cls, folder, located)
        else:
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            cls = transformers.MODEL_MAPPING[type(config)]
        for key, value in changes.items():
            if hasattr(config, key):
                setattr(config, key, value)
        with _silence(bool(name)):  # a part is loaded, and the rest is unexpected
            return _complete(model, cls, folder, config=config, dtype=dtype, **options)


def load_with_head(
    model: str, folder: Path, mapping: Mapping[Any, Any], head: str, dtype: torch.dtype
) -> Any:
    """Load a model with the head that a mapping of transformers has for its type.

    Raises `UserError` for a type without one, for an adapter that peft is missing or too old for,
    and as `load_encoder` does.
    """
    if (folder / "adapter_config.json").is_file():
        try:  # without peft, transformers would leave the adapter out
            check_peft_version(MIN_PEFT_VERSION)
        except ValueError as error:
            raise UserError(
                f"{model}: its adapter needs peft {MIN_PEFT_VERSION} or newer; install that, or "
                "merge the adapter into the weights."
            ) from error
    with named_errors(model):
        whole = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config = getattr(whole, "thinker_config", whole)  # an omni model's talker is left on disk
    if type(config) not in mapping:
        raise UserError(f"{model}: a {config.model_type} model cannot have {head}.")
    with named_errors(model), _silence(config is not whole):
        return _complete(model, mapping[type(config)], folder, config=config, dtype=dtype)


def _complete(model: str, cls: Any, folder: Path, **options: Any) -> Any:
    module, loading = cls.from_pretrained(folder, output_loading_info=True, **options)
    missing = sorted(set(loading["missing_keys"]) - NOT_NEEDED)
    if missing:
        raise UserError(
            f"{model}: its weights lack {missing[0]} and {len(missing) - 1} more tensors, which "
            "would be random; get the model again."
        )
    return module


@contextmanager
def named_errors(model: str) -> Iterator[None]:
    """Raise as `UserError` what transformers raises for files that cannot be used."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{model}: it cannot be loaded ({reason(error)}); get the model again."
        ) from error


@cache
def class_of(encoder: str) -> Any:
    """Return the class of `module.Class` of transformers, as it is run here."""
    module, name = encoder.split(".")
    cls = getattr(import_module(f"transformers.models.{module}.modeling_{module}"), name)
    if name == "SeamlessM4Tv2SpeechEncoder":
        return _conformer(cls)
    return _unprojected(cls) if name == "Qwen3OmniMoeAudioEncoder" else cls


def _conformer(encoder: Any) -> Any:
    """Return SeamlessM4T's encoder up to its conformer, before the adapter thins the frames."""

    class SeamlessConformer(encoder):  # type: ignore[misc]
        @capture_outputs  # type: ignore[untyped-decorator]
        def forward(
            self, input_features: Tensor, attention_mask: Tensor | None = None, **_: object
        ) -> BaseModelOutput:
            projected = self.feature_projection(input_features)
            return BaseModelOutput(last_hidden_state=self.encoder(projected, attention_mask))

    return SeamlessConformer


def _unprojected(encoder: Any) -> Any:
    """Return Qwen3-Omni's encoder without the projection to the language model's dimension."""

    class Qwen3OmniEncoder(encoder):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.proj1 = self.act = self.proj2 = nn.Identity()

    return Qwen3OmniEncoder


def _config_of(cls: Any, folder: Path, located: Located) -> Any:
    """Return the config of an encoder, with the defaults that its model has for it."""
    if not located.keys:
        return cls.config_class.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    for key in located.keys:
        config = getattr(config, key)
    return config


@contextmanager
def _silence(enabled: bool) -> Iterator[None]:
    """Keep transformers from listing the tensors that are not used."""
    verbosity = transformers.logging.get_verbosity()
    if enabled:
        transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


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


def arguments_of(located: Located, inputs: Tensor, mask: Tensor) -> dict[str, object]:
    """Return the arguments of an encoder, or of its model, for inputs as `run_encoder` has."""
    family, kind = located.family, str(located.config["model_type"])
    arguments = ARGUMENTS.get(kind, _arguments)(family, inputs, mask)
    if family.argument and family.takes_mask(located.config):
        arguments[family.argument] = mask.long()
    return arguments


def _arguments(family: Family, inputs: Tensor, mask: Tensor) -> dict[str, object]:
    return {"input_values" if family.reads == "waveform" else "input_features": inputs}


def _values(family: Family, inputs: Tensor, mask: Tensor) -> dict[str, object]:
    return {"input_values": inputs}


def _one_channel(family: Family, inputs: Tensor, mask: Tensor) -> dict[str, object]:
    return {"input_values": inputs.unsqueeze(1)}


def _bands_first(family: Family, inputs: Tensor, mask: Tensor) -> dict[str, object]:
    return {"input_features": inputs.transpose(1, 2)}


def _states(family: Family, inputs: Tensor, mask: Tensor) -> dict[str, object]:
    return {"hidden_states": inputs}


def _images(family: Family, inputs: Tensor, mask: Tensor) -> dict[str, object]:
    """Return the log-mels of CLAP; no clip is longer than a window, so nothing is fused."""
    longer = torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device)
    return {"input_features": inputs.unsqueeze(1), "is_longer": longer}


def _seconds(inputs: Tensor) -> Tensor:
    """Pad rows `(batch, rows, bands)` to whole seconds, `(batch, bands, rows)`."""
    return pad(inputs.transpose(1, 2), (0, -inputs.shape[1] % SECOND))


def _qwen3_asr(family: Family, inputs: Tensor, mask: Tensor) -> dict[str, object]:
    rows = pad(mask, (0, -mask.shape[1] % SECOND)).long()
    return {"input_features": _seconds(inputs), "input_features_mask": rows}


def _qwen3_omni(family: Family, inputs: Tensor, mask: Tensor) -> dict[str, object]:
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


ARGUMENTS = {
    "omniasr_audio": _one_channel,
    "audio-spectrogram-transformer": _values,
    "granite_speech_encoder": _states,
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
