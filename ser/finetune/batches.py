"""The batches of a fine-tuning, and the outputs of its model.

In every epoch the clips that the sampler draws are batched by similar length; each process takes
its share of every batch, in parts that fit the frame budget. The gradient is that of all clips of a
step (`ser.heads.training.step`), however they are divided.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ser.cache.reader import bucket, padded_share
from ser.finetune.clips import Clips, Inputs
from ser.finetune.joining import averaged
from ser.heads.training.processes import Processes
from ser.heads.training.schedule import Epoch
from ser.heads.training.step import MicroBatch
from ser.heads.training.targets import Labelled, Targets
from ser.heads.training.task import STEP, Task
from ser.heads.training.trainer import Outputs, Steps


@dataclass(frozen=True)
class Share:
    """The rows of one forward pass; without `trains` it only keeps step with other processes."""

    rows: list[int]
    trains: bool


class ClipBatches:
    """The clips of a fine-tuning, decoded ahead."""

    def __init__(self, task: Task, clips: Clips, processes: Processes) -> None:
        self.task, self.clips, self.processes = task, clips, processes

    def steps(self, epoch: Epoch, first: int) -> Steps:
        """Return the steps of an epoch, to be run from the step `first` on."""
        drawn, rng = self.task.draw(epoch)
        lengths = self.clips.costs(self.task.train.utterances, epoch.number)
        batches = bucket(drawn, lengths, epoch.stage.batch * self.processes.size, rng)
        budget, size = self.clips.config.budget, epoch.stage.accumulate
        steps = [batches[i : i + size] for i in range(0, len(batches), size)]
        shares = [share_of_process(step, lengths, budget, self.processes) for step in steps[first:]]
        remaining = self._remaining(epoch, shares, first)
        return Steps(len(steps), padded_share(batches, lengths), remaining)

    def _remaining(
        self, epoch: Epoch, steps: Sequence[Sequence[Share]], first: int
    ) -> Iterator[list[MicroBatch]]:
        """Yield the parts of each step; `first` is the number of the first one."""
        names = self.task.train.utterances
        plan = [[names[i] for i in share.rows] for step in steps for share in step]
        inputs = self.clips.batches(plan, epoch.number)
        partners = self.clips.joins.partners(names, epoch.number)
        targets = averaged(self.task.train_targets(epoch), partners)
        for number, step in enumerate(steps, start=first):
            parts = []
            for i, share in enumerate(step):  # in the order of the plan
                rank = self.processes.rank
                seed = self.task.config.seed, epoch.number, STEP, number, rank, i
                parts.append(self._part(share, next(inputs), targets, seed))
            yield parts

    def _part(
        self,
        share: Share,
        inputs: Inputs,
        targets: Callable[[np.ndarray], Targets],
        seed: tuple[int, ...],
    ) -> MicroBatch:
        trains = torch.from_numpy(inputs.usable & share.trains).to(self.task.device)
        masked = _only(targets(np.asarray(share.rows)), trains.unsqueeze(1))
        return MicroBatch(self._features(inputs), masked, seed)

    def _features(self, inputs: Inputs) -> dict[str, tuple[Tensor, Tensor]]:
        (name,) = self.task.config.feature_names
        return {name: (inputs.inputs.to(self.task.device, non_blocking=True), inputs.sizes)}

    def predict(self, module: nn.Module, utterances: Sequence[str]) -> Outputs:
        """Return every output, float32 `(utterances, width)`.

        Rows of clips that could not be read are NaN.
        """
        config, budget = self.task.config, self.clips.config.budget
        lengths = self.clips.costs(utterances, None)
        batches = bucket(range(len(utterances)), lengths, config.batch, None)
        parts = [part for batch in batches for part in fitting(batch, lengths, budget)]
        local = parts[self.processes.rank :: self.processes.size]
        plan = [[utterances[i] for i in part] for part in local]
        out = {
            name: torch.zeros(len(utterances), width) for name, width in self.task.outputs.items()
        }
        amp = config.amp and self.task.device.type == "cuda"
        for batch, positions in zip(self.clips.batches(plan, None), local, strict=True):
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=amp):
                outputs: Mapping[str, Tensor] = module(self._features(batch))
            unreadable = torch.from_numpy(~batch.usable).to(self.task.device).unsqueeze(1)
            for name, rows in out.items():
                rows[positions] = outputs[name].float().masked_fill(unreadable, math.nan).cpu()
        # each process has its own rows, and zeros elsewhere
        return {
            name: self.processes.summed(rows.to(self.task.device)).cpu().numpy()
            for name, rows in out.items()
        }

    def scored(self, module: nn.Module, rows: Labelled) -> tuple[Labelled, dict[str, np.ndarray]]:
        """Return the rows that can be read, and the outputs of a module for them."""
        outputs = self.predict(module, rows.utterances)
        finite = [~np.isnan(values).any(axis=1) for values in outputs.values()]
        readable: np.ndarray = np.logical_and.reduce(finite)
        readable_outputs = {name: values[readable] for name, values in outputs.items()}
        return rows.take(np.flatnonzero(readable)), readable_outputs


def _only(targets: Targets, trained: Tensor) -> Targets:
    """Return the targets with no effect on training except for rows of `trained` `(batch, 1)`."""

    def masked(rows: Tensor) -> Tensor:
        return torch.where(trained, rows, 0.0)

    ratings = targets.attributes
    blank = None if ratings is None else torch.where(trained, ratings, math.nan)
    return replace(targets.each(masked), attributes=blank)


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
