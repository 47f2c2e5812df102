"""Which hidden states of a model become the feature.

`-1` (the last) or any index: one layer; 0 is what enters the first layer. `mean:-4:` and `sum:-4:`
take a Python slice of the layers. `all` keeps every layer: frames become (layers, dim).
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PATTERN = re.compile(r"(mean|sum):(-?\d*):(-?\d*)")


def check_policy(policy: int | str) -> int | str:
    """Return the policy, digits as int; raises `ValueError` when it is not one."""
    text = str(policy)
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if text == "all" or PATTERN.fullmatch(text):
        return text
    raise ValueError("a layer is an index, 'mean:-4:', 'sum:-4:' (any slice) or 'all'")


def taken(states: int, policy: int | str) -> list[int]:
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

    chosen = [states[i] for i in taken(len(states), policy)]
    if policy == "all":
        return torch.stack(chosen, dim=2)
    if len(chosen) == 1:
        return chosen[0]
    stacked = torch.stack(chosen)
    return stacked.mean(0) if str(policy).startswith("mean") else stacked.sum(0)


def item_shape(states: int, dim: int, policy: int | str) -> tuple[int, ...]:
    """Return the shape of one frame: (dim,) or, for `all`, (states, dim).

    Raises `ValueError` for a layer the model does not have: at loading, before any work is done.
    """
    taken(states, policy)
    return (states, dim) if policy == "all" else (dim,)
