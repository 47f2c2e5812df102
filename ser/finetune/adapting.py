"""Which parameters of an encoder are trained, and how fast: freezing, adapters, layer-wise rates.

Parameters are ordered by the model's list of blocks: those before it (convolutions, embeddings,
projections) have depth 0, those of block k depth k, and those after it (a final norm) depth n, like
the last block's. Layer-wise rates multiply by `layer_decay` for each step down from n
(Howard, Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.2).
"""

import re
import warnings
from typing import Any

import torch
from torch import nn

from ser.corpus.errors import UserError, plural
from ser.extract.encoder import Encoder
from ser.finetune.config import FineTuneConfig, LoRA

Groups = list[dict[str, Any]]  # as optimizers take them
CONVOLUTIONS = ("feature_extractor.", "conv1.", "conv2.")
# WavLM computes attention from the raw weights of these, bypassing adapters
BYPASSED = {"wavlm": ("q_proj", "k_proj", "v_proj", "out_proj")}


def depths(model: nn.Module, layers: int) -> dict[str, int]:
    """Return the depth of every parameter by name, for a model with `layers` blocks."""
    prefix = _blocks(model, layers)
    depth, below = {}, True
    for name, _ in model.named_parameters():
        block = _block_of(name, prefix)
        if block is not None:
            depth[name], below = block + 1, False
        else:
            depth[name] = 0 if below else layers
    return depth


def _block_of(name: str, prefix: str) -> int | None:
    """Return the number of the block that a module or parameter is in; None for no block."""
    inside = re.match(rf"{re.escape(prefix)}\.(\d+)\.", name)
    return int(inside[1]) if inside else None


def _blocks(model: nn.Module, layers: int) -> str:
    """Return the name of the list of blocks."""
    name: str
    for name, module in model.named_modules():
        plain = name.rpartition(".")[2] in ("layers", "layer", "block", "h")
        if plain and isinstance(module, nn.ModuleList) and len(module) == layers:
            return name
    raise UserError(
        f"{type(model).__name__}: it has no list of {layers} blocks, so its layers cannot be "
        "selected; fine-tune another model."
    )


def freeze(encoder: Encoder, config: FineTuneConfig) -> None:
    """Exclude from training the parts that the config freezes; raises `UserError`."""
    by_name = depths(encoder.model, encoder.layers)
    for part in encoder.frozen if config.freeze is None else config.freeze:
        frozen = [
            name for name, depth in by_name.items() if _is_in(part, name, depth, encoder.layers)
        ]
        if not frozen:
            raise UserError(f"finetune: {config.model} has no {part} to freeze; correct `freeze:`.")
        for name in frozen:
            encoder.model.get_parameter(name).requires_grad_(False)


def _is_in(part: str, name: str, depth: int, layers: int) -> bool:
    if part == "feature_encoder":
        return name.startswith(CONVOLUTIONS)
    if part == "embeddings":
        return depth == 0
    if part == "all":
        return True
    count = int(part.partition(":")[2])
    if count > layers:
        raise UserError(
            f"finetune: freeze: {part}: the model has {plural(layers, 'layer')}; correct it."
        )
    return depth <= count


def adapt(encoder: Encoder, name: str, lora: LoRA) -> Any:
    """Freeze the model and add adapters to its linear layers; return peft's wrapper of it.

    `name` is that of the model, for messages.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft takes floats
        lora_dropout=lora.dropout,
        target_modules=_targets(encoder, name, lora),
        bias="none",
    )
    with warnings.catch_warnings():  # caused within peft, and not fixable here
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(encoder.model, config)


def _targets(encoder: Encoder, model: str, lora: LoRA) -> list[str]:
    prefix = _blocks(encoder.model, encoder.layers)
    first = 0 if lora.layers is None else max(0, encoder.layers - lora.layers)
    bypassed = BYPASSED.get(str(encoder.model.config.model_type), ())
    for target in lora.targets:
        if target.rpartition(".")[2] in bypassed:
            raise UserError(
                f"finetune: lora.targets: {model} bypasses {target} in its "
                "attention, so an adapter there has no effect; use intermediate_dense, "
                "output_dense."
            )
    linear = {}  # full name -> last part of it
    for name, module in encoder.model.named_modules():
        block = _block_of(name, prefix)
        if block is not None and block >= first and isinstance(module, nn.Linear):
            linear[name] = name.rpartition(".")[2]
    if lora.targets:
        ends = tuple(f".{target}" for target in lora.targets)
        chosen = [name for name in linear if name.endswith(ends)]
    else:
        chosen = [name for name, last in linear.items() if last not in bypassed]
    if not chosen:
        available = ", ".join(dict.fromkeys(linear.values()))
        raise UserError(
            f"finetune: lora.targets: {', '.join(lora.targets)} match no linear layer of "
            f"{model}; its linear layers are {available}."
        )
    return chosen


def parameter_groups(config: FineTuneConfig, encoder: Encoder, head: nn.Module) -> Groups:
    """Return the optimizer's parameter groups, each with its `scale` of the learning rate.

    The head is the last group. Frozen parameters are in none.
    """
    depth_of = depths(encoder.model, encoder.layers)
    by_depth: dict[int, list[nn.Parameter]] = {}
    for name, parameter in encoder.model.named_parameters():
        if parameter.requires_grad:
            by_depth.setdefault(depth_of[name], []).append(parameter)
    top, decay = encoder.layers, config.layer_decay
    groups: Groups = [
        {"params": by_depth[depth], "scale": decay ** (top - depth)} for depth in sorted(by_depth)
    ]
    if decay == 1 and groups:
        groups = [{"params": [p for group in groups for p in group["params"]], "scale": 1.0}]
    head_scale = (config.head_lr or config.training.lr) / config.training.lr
    return [*groups, {"params": list(head.parameters()), "scale": head_scale}]


def optimizer(config: FineTuneConfig, groups: Groups) -> torch.optim.Optimizer:
    """Return Adam, or AdamW with decoupled weight decay."""
    training = config.training
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=training.lr, betas=training.betas, weight_decay=training.weight_decay)
