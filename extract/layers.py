"""The layer policy of a model: which of its hidden states become the feature.

`-1` (the last) or any index, 0 being the input of the first layer; `mean:-4:` and `sum:-4:`, a
Python slice of the layers; `all`, every layer, so that a frame becomes (layers, dim).
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

if TYPE_CHECKING:
    import torch

PATTERN = re.compile(r"(mean|sum):(-?[0-9]{0,4}):(-?[0-9]{0,4})")


def check_policy(policy: int | str) -> int | str:
    """Return the policy, digits as int; raises `ValueError` when it is not one."""
    text = str(policy)
    if re.fullmatch(r"-?[0-9]{1,4}", text):
        return int(text)
    if text == "all" or PATTERN.fullmatch(text):
        return text
    raise ValueError("a layer is an index, 'mean:-4:', 'sum:-4:' (any slice) or 'all'")


Layer = Annotated[int | str, AfterValidator(check_policy)]  # the field `layer` of a config


def selected(states: int, policy: int | str) -> list[int]:
    """Return which of a model's states a policy takes; raises `ValueError` when it has none."""
    match = PATTERN.fullmatch(str(policy))
    if match is not None:
        _, start, stop = match.groups()
        span = slice(int(start) if start else None, int(stop) if stop else None)
        if not range(states)[span]:
            raise ValueError(f"layer {policy}: the slice is empty, the model has {states} states")
        return list(range(states)[span])
    if policy == "all":
        return list(range(states))
    if not -states <= int(policy) < states:
        raise ValueError(f"layer {policy}: the model has states 0 to {states - 1}")
    return [int(policy) % states]


def choose(states: "Sequence[torch.Tensor]", policy: int | str) -> "torch.Tensor":
    """Apply a policy to states of `(batch, frames, dim)`, the first of them the input of layer 1.

    Returns `(batch, frames, dim)`, or `(batch, frames, layers, dim)` for `all`. Raises `ValueError`
    for a layer the model does not have.
    """
    import torch

    chosen = [states[i] for i in selected(len(states), policy)]
    if policy == "all":
        return torch.stack(chosen, dim=2)
    if len(chosen) == 1:
        return chosen[0]
    stacked = torch.stack(chosen)
    return stacked.mean(0) if str(policy).startswith("mean") else stacked.sum(0)


def hidden(
    model: Any,
    states: int,
    policy: int | str,
    shape: "Callable[[torch.Tensor, bool], torch.Tensor] | None" = None,
    **inputs: Any,
) -> "torch.Tensor":
    """Run a transformers model that has this many states, and apply a policy to them.

    All states are kept only if the policy needs them, because they would take most of the memory.
    The last one is the model's own output, after its final norm, if any. `shape` turns a state, and
    whether it is the last, to `(batch, frames, dim)` where it is not.
    """
    last_only = selected(states, policy) == [states - 1]
    out = model(output_hidden_states=not last_only, **inputs)
    below = (None,) * (states - 1) if last_only else out.hidden_states[:-1]
    kept: list[Any] = [*below, out.last_hidden_state]
    if shape is not None:
        kept = [s if s is None else shape(s, i == states - 1) for i, s in enumerate(kept)]
    return choose(kept, policy)


def item_shape(states: int, dim: int, policy: int | str) -> tuple[int, ...]:
    """Return the shape of one frame: (dim,) or, for `all`, (states, dim).

    Raises `ValueError` for a layer the model does not have: at loading, before any work is done.
    """
    selected(states, policy)
    return (states, dim) if policy == "all" else (dim,)
