"""The division of a step's clips among processes, and into parts that fit the frame budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ser.heads.training.processes import Processes


@dataclass(frozen=True)
class Share:
    """The rows of one forward pass; without `trains` it only keeps step with other processes."""

    rows: list[int]
    trains: bool


def share_of_process(
    step: Sequence[Sequence[int]], lengths: np.ndarray, budget: int | None, processes: Processes
) -> list[Share]:
    """Return this process's clips of a step (of batches of rows), in parts that fit the budget.

    `lengths` are the numbers of frames of all rows.
    """
    shares = []
    for batch in step:
        local = list(batch[processes.rank :: processes.size])
        # a last batch may have fewer clips than there are processes
        rows, trains = (local, True) if local else (list(batch[:1]), False)
        shares += [Share(part, trains) for part in fitting(rows, lengths, budget)]
    return shares


def fitting(rows: Sequence[int], lengths: np.ndarray, budget: int | None) -> list[list[int]]:
    """Divide rows into parts within the budget of frames, padding included; None is no limit."""
    limit = budget or math.inf
    parts: list[list[int]] = []
    longest = 0
    for row in rows:
        longest = max(longest, int(lengths[row]))
        if not parts or longest * (len(parts[-1]) + 1) > limit:
            parts.append([])
            longest = int(lengths[row])
        parts[-1].append(row)
    return parts
