"""The processes of one training, a device each; the only one, unless several train one model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """The group of processes of one training: this one's rank, their number, and the device.

    Every process has the whole model and steps on the summed gradients, so that all of them stay
    identical to the bit; the first one writes. accelerate connects them, by NCCL or Gloo.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """Return the rows `(n, …)` of all processes in their order, and the slice of ours."""
        if self.size == 1:
            return rows, slice(None)
        from accelerate.utils import gather, pad_across_processes

        count = torch.tensor([len(rows)], device=rows.device)
        counts = cast(Tensor, gather(count)).tolist()
        padded = cast(Tensor, gather(pad_across_processes(rows.contiguous(), dim=0)))
        parts = [part[:n] for part, n in zip(padded.chunk(self.size), counts, strict=True)]
        start = sum(counts[: self.rank])
        return torch.cat(parts), slice(start, start + counts[self.rank])

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.size == 1:
            return values
        from accelerate.utils import reduce

        return cast(Tensor, reduce(values, "sum"))

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over all processes; a gradient that no process has stays None."""
        if self.size == 1:
            return
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        for parameter, count in zip(parameters, self.summed(present).tolist(), strict=True):
            if count:
                local = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.summed(local)

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        self.summed(torch.zeros(1, device=self.device))
