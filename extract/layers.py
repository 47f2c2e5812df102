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


def choose(states: "Sequence[torch.Tensor]", policy: int | str) -> "torch.Tensor":
    """Apply a policy to states of `(batch, frames, dim)`, the first of them the input of layer 1.

    Returns `(batch, frames, dim)`, or `(batch, frames, layers, dim)` for `all`. Raises `ValueError`
    for a layer the model does not have.
    """
    import torch

    if policy == "all":
        return torch.stack(list(states), dim=2)
    if isinstance(policy, int):
        if not -len(states) <= policy < len(states):
            raise ValueError(f"layer {policy}: the model has states 0 to {len(states) - 1}")
        return states[policy]
    match = PATTERN.fullmatch(policy)
    if match is None:
        raise ValueError(f"layer {policy!r} is not a policy")
    how, start, stop = match.groups()
    taken = states[slice(int(start) if start else None, int(stop) if stop else None)]
    if not taken:
        raise ValueError(f"layer {policy}: the slice is empty, the model has {len(states)} states")
    stacked = torch.stack(list(taken))
    return stacked.mean(0) if how == "mean" else stacked.sum(0)


def item_shape(states: int, dim: int, policy: int | str) -> tuple[int, ...]:
    """Return the shape of one frame: (dim,) or, for `all`, (states, dim)."""
    return (states, dim) if policy == "all" else (dim,)
