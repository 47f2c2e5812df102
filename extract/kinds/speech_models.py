"""Loading the encoders of kind speech, and other models of transformers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.integrations.peft import MIN_PEFT_VERSION
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.output_capturing import capture_outputs
from transformers.utils.peft_utils import check_peft_version

from ser.corpus.errors import UserError
from ser.extract.kinds.dasheng_model import load_dasheng
from ser.extract.kinds.emotion2vec_model import load_emotion2vec
from ser.extract.kinds.spear_model import load_spear
from ser.extract.kinds.speech_families import Located
from ser.extract.loading import load_whole, named_errors

OWN_MODULES = {"emotion2vec": load_emotion2vec, "dasheng": load_dasheng, "spear": load_spear}


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
    prefix = rf"^(?:model\.|thinker\.)*{located.tensors}\."
    renamed = {prefix: ""} if located.tensors else None
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
            return load_whole(model, cls, folder, config=config, dtype=dtype, key_mapping=renamed)


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
    with _silence(config is not whole):
        return load_whole(model, mapping[type(config)], folder, config=config, dtype=dtype)


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
