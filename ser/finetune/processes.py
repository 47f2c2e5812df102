"""One training over several processes of a machine: a GPU each, or on the CPU for tests.

`accelerate launch -m ser finetune …`, torchrun and `ser finetune --processes N` all start the same
command N times, with its rank in the environment. accelerate then opens the group, by NCCL or Gloo.
Every process has the whole model and steps on the summed gradients, so that all of them stay
identical to the bit; the first one writes.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ser.extract.extractor import choose_device


@dataclass(frozen=True)
class Processes:
    """The group of processes of one training: this one's rank, their number, and the device."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable

    @classmethod
    def join(cls, device: str) -> "Processes":
        """Join the group that the environment names; without one, a group of one process."""
        device = choose_device(device)
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(device=torch.device(device))
        from accelerate import PartialState

        state: Any = PartialState(cpu=device == "cpu")
        return cls(state.process_index, state.num_processes, state.device)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """Return the rows `(n, …)` of all processes in their order, and the slice of ours."""
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
        if self.size > 1:
            self.summed(torch.zeros(1, device=self.device))


def start(processes: int, words: Sequence[str]) -> int:
    """Run `ser WORDS` in a group of this many processes; return the exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "--module", "ser", *words]
    return subprocess.run(command, check=False).returncode


def is_one_of_several() -> bool:
    """Return whether this process was started as one of a group."""
    return "LOCAL_RANK" in os.environ
