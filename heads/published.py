"""Weights from elsewhere: a published state dict becomes a file that `init:` of a head takes.

    ser heads import best.pt --as cross_modal_gru --out weights/best.safetensors

Only `torch.load(weights_only=True)` reads the file: what needs unpickling is refused. The sizes are
read off the tensors; the features of the head must be speech, text (and prosody), in this order.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ser.cache.files import write_durably
from ser.corpus.errors import UserError
from ser.heads.architectures.cross_modal_gru import (
    PUBLISHED_MODALITIES,
    CrossModalGRU,
    load_published,
)
from ser.heads.inputs import Prepared
from ser.heads.options import CrossModalGRUOptions

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys that trainers put the weights under


def import_published(
    file: Path, head: str, out: Path, attention_heads: Mapping[str, int]
) -> dict[str, Any]:
    """Convert a state dict of the UNICAMP code and write it; return its sizes.

    `attention_heads` gives their number for each modality where it is not 1, because the weights do
    not show it.
    Raises `UserError` for another architecture, or a file that is not its state dict.
    """
    if head != "cross_modal_gru":
        raise UserError(
            f"--as {head}: only published checkpoints of cross_modal_gru can be read; write the "
            "weights of another head as safetensors under our names and give it as `init:`."
        )
    state = read_state(file)
    try:
        module, about = _module(state, attention_heads)
        load_published(module, state)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[-1].strip()
        raise UserError(
            f"{file}: these are not the weights of a published cross_modal_gru ({reason}); give "
            "the state dict that its training script saved."
        ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    write_durably(out, save(module.state_dict(), {"ser": json.dumps(about)}))
    return about


def read_state(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.pt`, also from within a checkpoint; nothing is unpickled."""
    if not file.is_file():
        raise UserError(f"{file} does not exist; give the checkpoint to import.")
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(
            f"{file}: it holds more than tensors, or is not a PyTorch file, and is not unpickled; "
            "save its state_dict() alone."
        ) from error
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = loaded if isinstance(loaded, Mapping) else {}
    return {str(k).removeprefix("module."): v for k, v in tensors.items() if torch.is_tensor(v)}


def _module(
    state: Mapping[str, Tensor], attention_heads: Mapping[str, int]
) -> tuple[CrossModalGRU, dict[str, Any]]:
    dims = {
        name: state[f"{name}_projection.weight"].shape[1]
        for name in PUBLISHED_MODALITIES
        if f"{name}_projection.weight" in state
    }
    hidden = state["speech_projection.weight"].shape[0]
    last = [v for k, v in state.items() if k.startswith("classifier.") and v.dim() == 2][-1]
    outputs = {"logits": last.shape[0]}
    if any("neutral" in key for key in state):
        outputs["neutral_logit"] = 1
    options = CrossModalGRUOptions(hidden=hidden, attention_heads=dict(attention_heads))
    about = {"head": "cross_modal_gru", "hidden": hidden, "dims": dims, "outputs": outputs}
    return CrossModalGRU(dims, outputs, options), about


def load_init(module: Prepared, file: Path) -> None:
    """Load `init:`: weights of a head, or those of a trained one with its inputs.

    Raises `UserError` when they are not of this head.
    """
    if not file.is_file():
        raise UserError(f"{file} does not exist; correct `init:`.")
    try:
        state = load_file(file)
        whole = any(key.startswith("head.") for key in state)
        (module if whole else module.head).load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[-1].strip()
        raise UserError(
            f"{file}: the weights are not of this head ({reason}); give its features, sizes and "
            "losses as they were, or remove `init:`."
        ) from error
