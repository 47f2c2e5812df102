"""How the learning rate runs: by epoch within a phase, climbing at first by step.

With s the share of the phase's epochs that are done, from `lr` to `lr_min`:

cosine       lr_min + (lr - lr_min) (1 + cos(pi s)) / 2
linear       lr + (lr_min - lr) s
exponential  lr (lr_min / lr)^s
constant     lr

During the first `warmup` steps of a phase the rate is multiplied by (step + 1) / warmup.
"""

import math
from dataclasses import dataclass

from ser.heads.config import HeadConfig


def _decayed(config: HeadConfig, done: float) -> float:
    first, last = config.lr, config.lr_min
    match config.schedule:
        case "cosine":
            return last + (first - last) * (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return first + (last - first) * done
        case "exponential":
            return first * math.exp(done * math.log(last / first))
        case _:
            return first


@dataclass(frozen=True)
class Epoch:
    """An epoch of a training: its number, the config of its phase, and its number in the phase."""

    number: int
    stage: HeadConfig
    in_phase: int

    @property
    def done(self) -> float:
        """Return the share of the phase's epochs before this one."""
        return self.in_phase / self.stage.epochs

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at a step of an epoch of so many."""
        begun, warmup = self.in_phase * steps + step + 1, self.stage.warmup
        climb = min(1.0, begun / warmup) if warmup else 1.0
        return climb * _decayed(self.stage, self.done)


def epochs(config: HeadConfig) -> list[Epoch]:
    """List the epochs of a training, phase by phase."""
    phases = [(stage, epoch) for stage in config.stages for epoch in range(stage.epochs)]
    return [Epoch(number, stage, epoch) for number, (stage, epoch) in enumerate(phases)]
