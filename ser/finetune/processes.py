"""One fine-tuning in several processes of a machine: a GPU each, or on the CPU for tests.

`accelerate launch -m ser finetune …`, torchrun and `ser finetune --processes N` all start the same
command N times, with its rank in the environment; accelerate then opens the group.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch

from ser.extract.devices import choose_device
from ser.heads.training.processes import Processes


def join(device: str) -> Processes:
    """Join the group that the environment names; without one, a group of one process."""
    device = choose_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(device=torch.device(device))
    from accelerate import PartialState

    state: Any = PartialState(cpu=device == "cpu")
    return Processes(state.process_index, state.num_processes, state.device)


def start(processes: int, words: Sequence[str]) -> int:
    """Run `ser WORDS` in a group of this many processes; return the exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "--module", "ser", *words]
    return subprocess.run(command, check=False).returncode


def is_one_of_several() -> bool:
    """Return whether this process was started as one of a group."""
    return "LOCAL_RANK" in os.environ
