"""Weights from elsewhere: a published state dict becomes a file that `init:` of a head takes.

    ser heads import best.pt --as cross_modal_gru --out weights/best.safetensors

Only `torch.load(weights_only=True)` reads the files: what needs unpickling is refused. The sizes
are read off the tensors (`ser.heads.peers`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ser.corpus.atomic import write_durably
from ser.corpus.errors import UserError, listed
from ser.heads import peers
from ser.heads.config import HeadConfig, parse_head
from ser.heads.inputs import Prepared
from ser.heads.peers import Released

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys that trainers put the weights under
READERS = {
    "cross_modal_gru": peers.unicamp,
    "attentive_stats": peers.baseline,
    "conv_pool": peers.sail,
    "deep_fusion": peers.medusa,
    "early_mha": peers.bsc_upc,
    "mdat": peers.ufg,
}
# losses of which each output is learned
LOSS = {"logits": "wce", "other": "kld", "neutral_logit": "sml", "attributes": "ccc"}
FREE = ("early_mha",)  # released heads that sum layers without a softmax


def import_published(
    files: Sequence[Path], head: str, out: Path, attention_heads: Mapping[str, int]
) -> Released:
    """Convert the state dict of a released head and write it; return what it is.

    Args:
        files: the checkpoint, or several whose tensors belong to one head.
        head: our architecture.
        out: the safetensors file to write.
        attention_heads: their number for each modality where it is not 1, because the weights do
            not show it.

    Raises `UserError` for an architecture that nobody released, or files that are not its state
    dict.
    """
    if head not in READERS:
        raise UserError(
            f"--as {head}: no checkpoint of this architecture is known; use one of "
            f"{listed(READERS)}, or write the weights as safetensors under our names and give the "
            "file as `init:`."
        )
    state = {key: value for file in files for key, value in read_state(file).items()}
    try:
        released = READERS[head](state, attention_heads)
        module = prepared(released, head)
    except (KeyError, IndexError, RuntimeError, ValueError, StopIteration) as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[-1].strip()
        raise UserError(
            f"{files[0]}: these are not the weights of a published {head} ({reason}); give "
            "the state dict that its training script saved."
        ) from error
    spec = {"head": head, **released.options, "dims": released.dims, "outputs": released.outputs}
    whole = module if released.layer_weights else module.head
    out.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in whole.state_dict().items()}
    write_durably(out, save(tensors, {"ser": json.dumps(spec)}))
    return released


def yaml_entry(released: Released, head: str, init: Path) -> str:
    """Return the entry of pipeline.yaml that uses the weights; its features are to be renamed."""
    losses = [LOSS[output] for output in released.outputs]
    values = {**_entry(released, head), "loss": losses, "init": str(init), "epochs": 0}
    if "other" in released.outputs:
        values["votes"] = {"other": "keep"}
    text: str = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=10_000)
    return text.strip()


def _entry(released: Released, head: str) -> dict[str, object]:
    free = {"layer_sum": "free"} if head in FREE else {}
    summed = released.layer_weights
    features = [{"name": name, **(free if name in summed else {})} for name in released.dims]
    return {"head": head, "features": features, **released.options}


def prepared(released: Released, head: str) -> Prepared:
    """Build the head and load its weights; PyTorch raises `RuntimeError` where they do not fit."""
    config: HeadConfig = parse_head(_entry(released, head))
    dims, sums = released.dims, released.layer_weights
    shapes = {n: (len(sums[n]), dim) if n in sums else (dim,) for n, dim in dims.items()}
    whole = Prepared.build(config, shapes, released.outputs)
    state = {f"head.{key}": value for key, value in released.state.items()}
    state |= {f"inputs.{i}.layer_weights": sums[n] for i, n in enumerate(dims) if n in sums}
    whole.load_state_dict(state)
    return whole.eval()


def read_state(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.pt`, also from within a checkpoint; nothing is unpickled."""
    if not file.is_file():
        raise UserError(f"{file} does not exist; give the checkpoint to import.")
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # which one depends on where the file is damaged
        raise UserError(
            f"{file}: it holds more than tensors, or is not a PyTorch file, and is not unpickled; "
            "save its state_dict() alone."
        ) from error
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = loaded if isinstance(loaded, Mapping) else {}
    return {str(k).removeprefix("module."): v for k, v in tensors.items() if torch.is_tensor(v)}


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
