"""What of an encoder is trained, and how fast: freezing, adapters, learning rates by layer.

A model is taken apart by the list of its blocks: parameters that stand before it (convolutions,
embeddings, projections) are depth 0, those of block k depth k, and those behind it (a final norm)
depth n as the last block's. Layer-wise rates multiply by `layer_decay` for each step down from n
(Howard, Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.2).
"""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from corpus.errors import UserError
from ser.finetune.config import FineTuneConfig, LoRA
from ser.finetune.encoders import Encoder

CONVOLUTIONS = ("feature_extractor.", "conv1.", "conv2.")
# WavLM computes attention from the bare weights of these, past any adapter
PAST_ADAPTERS = {"wavlm": ("q_proj", "k_proj", "v_proj", "out_proj")}


def depths(model: nn.Module, layers: int) -> dict[str, int]:
    """Return the depth of every parameter of a model with this many blocks, by name."""
    prefix = _blocks(model, layers)
    found, seen = {}, False
    for name, _ in model.named_parameters():
        inside = re.match(rf"{re.escape(prefix)}\.(\d+)\.", name)
        seen = seen or inside is not None
        found[name] = int(inside[1]) + 1 if inside else layers if seen else 0
    return found


def _blocks(model: nn.Module, layers: int) -> str:
    """Return the name of the list of blocks."""
    name: str
    for name, module in model.named_modules():
        plain = name.rpartition(".")[2] in ("layers", "layer", "block", "h")
        if plain and isinstance(module, nn.ModuleList) and len(module) == layers:
            return name
    raise UserError(
        f"{type(model).__name__}: it has no list of {layers} blocks, so that nothing of it can be "
        "told apart; fine-tune another model."
    )


def freeze(encoder: Encoder) -> None:
    """Take from training what the config says."""
    of = depths(encoder.model, encoder.layers)
    said = encoder.config.freeze
    for part in encoder.frozen if said is None else said:
        frozen = [name for name, depth in of.items() if _is_in(part, name, depth, encoder.layers)]
        if not frozen:
            raise UserError(
                f"finetune: {encoder.config.model} has no {part} to freeze; correct `freeze:`."
            )
        for name in frozen:
            encoder.model.get_parameter(name).requires_grad_(False)


def _is_in(part: str, name: str, depth: int, layers: int) -> bool:
    if part == "feature_encoder":
        return name.startswith(CONVOLUTIONS)
    if part == "embeddings":
        return depth == 0
    if part == "all":
        return True
    wanted = int(part.partition(":")[2])
    if wanted > layers:
        raise UserError(f"finetune: freeze: {part}: the model has {layers} layers.")
    return depth <= wanted


def adapt(encoder: Encoder, lora: LoRA) -> Any:
    """Freeze the model and put adapters beside its linear maps; return peft's wrapper of it."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft takes floats
        lora_dropout=lora.dropout,
        target_modules=_targets(encoder, lora),
        bias="none",
    )
    with warnings.catch_warnings():  # of what peft asks transformers, and nobody here can mend
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(encoder.model, config)


def _targets(encoder: Encoder, lora: LoRA) -> list[str]:
    prefix, first = _blocks(encoder.model, encoder.layers), 0
    if lora.layers is not None:
        first = max(0, encoder.layers - lora.layers)
    past = PAST_ADAPTERS.get(str(encoder.model.config.model_type), ())
    for target in lora.targets:
        if target.rpartition(".")[2] in past:
            raise UserError(
                f"finetune: lora.targets: {encoder.config.model} computes its attention past "
                f"{target}, where an adapter learns nothing; use intermediate_dense, output_dense."
            )
    maps = {}
    for name, module in encoder.model.named_modules():
        inside = re.match(rf"{re.escape(prefix)}\.(\d+)\.", name)
        if inside and int(inside[1]) >= first and isinstance(module, nn.Linear):
            maps[name] = name.rpartition(".")[2]
    ends = lora.targets
    chosen = [
        name
        for name, last in maps.items()
        if (name.endswith(tuple(f".{end}" for end in ends)) if ends else last not in past)
    ]
    if not chosen:
        known = ", ".join(dict.fromkeys(maps.values()))
        raise UserError(
            f"finetune: lora.targets: {', '.join(ends)} are no linear maps of "
            f"{encoder.config.model}; known are {known}."
        )
    return chosen


def parameter_groups(
    config: FineTuneConfig, encoder: Encoder, head: nn.Module
) -> list[dict[str, Any]]:
    """Return the optimizer's groups, each with its `scale` of the learning rate.

    The head is the last group. Only what is trained is in any.
    """
    of = depths(encoder.model, encoder.layers)
    by_depth: dict[int, list[nn.Parameter]] = {}
    for name, parameter in encoder.model.named_parameters():
        if parameter.requires_grad:
            by_depth.setdefault(of[name], []).append(parameter)
    top, decay = encoder.layers, config.layer_decay
    groups = [_group(by_depth[depth], decay ** (top - depth)) for depth in sorted(by_depth)]
    if decay == 1 and groups:
        groups = [_group([p for group in groups for p in group["params"]], 1.0)]
    of_head = (config.head_lr or config.training.lr) / config.training.lr
    return [*groups, _group(list(head.parameters()), of_head)]


def _group(parameters: Sequence[nn.Parameter], scale: float) -> dict[str, Any]:
    return {"params": list(parameters), "scale": scale}


def optimizer(config: FineTuneConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return Adam, or AdamW whose decay is apart from the gradient."""
    said = config.training
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=said.lr, betas=said.betas, weight_decay=said.weight_decay)
