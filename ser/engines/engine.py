"""Where the work of a stage is done."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Engine:
    """Processes of this machine, a Ray cluster or SLURM; by default this process alone.

    Attributes:
        jobs: how many processes; None is as many as cores and memory hold, of heads only.
        ray: whether the work goes to a Ray cluster instead.
        address: the cluster's, as `auto` or ray://host:10001; None starts one on this machine.
        slurm: the options of SLURM's jobs, where the work goes there; else None.
    """

    jobs: int | None = 1
    ray: bool = False
    address: str | None = None
    slurm: Mapping[str, str] | None = None

    @property
    def elsewhere(self) -> bool:
        """Return whether other machines do the work."""
        return self.ray or self.slurm is not None

    @property
    def is_local(self) -> bool:
        """Return whether an extraction needs no other process than this one."""
        return not self.elsewhere and (self.jobs is None or self.jobs == 1)


LOCAL = Engine()
