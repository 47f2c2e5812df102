"""The training loop of heads and of fine-tuned models.

1. Every epoch: the sampler draws clips, which are batched by similar length; at each step the
   losses are summed and the optimizer steps on the gradient of all its clips.
2. After every epoch: the scores of the whole dev set; the best epoch's weights are kept.
3. Once a minute, and on SIGTERM: a checkpoint, amid an epoch too.
4. At the end, or when no better epoch has come for `patience` epochs: the best weights.

Everything random depends on `seed` and the numbers of the epoch and the step: on one machine the
same call gives the same bits, also when it was interrupted and resumes from its checkpoint.

What differs is passed in: where the clips come from (`Data`), the optimizer, and the processes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ser.corpus.errors import UserError
from ser.corpus.termination import deferred, raise_if_requested
from ser.heads.config import HeadConfig
from ser.heads.training.checkpoint import Checkpoint, State
from ser.heads.training.memory import keep_freed_memory
from ser.heads.training.processes import Processes
from ser.heads.training.schedule import Epoch, epochs
from ser.heads.training.step import MicroBatch, backward
from ser.heads.training.targets import Labelled
from ser.heads.training.task import Task, chosen_score

Row = Mapping[str, float]  # of the history: `epoch`, `lr`, `train_loss`, the scores of dev
AfterEpoch = Callable[[Row], object]
Outputs = Mapping[str, np.ndarray]  # float32 `(utterances, width)` of each output


@dataclass(frozen=True)
class Steps:
    """The steps of an epoch: how many, and the batches of each one that is still to be run."""

    count: int
    padded_share: float
    remaining: Iterator[list[MicroBatch]]


class Data(Protocol):
    """Where the clips of a training come from."""

    def steps(self, epoch: Epoch, first: int) -> Steps:
        """Return the steps of an epoch, to be run from the step `first` on."""
        ...

    def predict(self, module: nn.Module, utterances: Sequence[str]) -> Outputs:
        """Return the outputs of a module for utterances."""
        ...

    def scored(self, module: nn.Module, rows: Labelled) -> tuple[Labelled, Outputs]:
        """Return the rows that can be read, and the outputs of a module for them."""
        ...


DataT = TypeVar("DataT", bound=Data)


@dataclass
class Trained:
    """A trained module and its history; `best_score` is None without a dev set.

    One that was solved has no history, but the candidates that were compared.
    """

    module: nn.Module
    history: Sequence[Row]
    best_epoch: int
    best_score: float | None
    candidates: Sequence[Mapping[str, object]] = ()


@dataclass(frozen=True)
class Best:
    """The best epoch, its score and a copy of its weights.

    There are no weights before the first epoch, and no score (infinitely low) without a dev set.
    """

    epoch: int = -1
    score: float = -math.inf
    weights: dict[str, Tensor] | None = None


@dataclass
class Curve:
    """How far a training is: a row for each epoch, the losses of the epoch amid it, the best."""

    history: list[Row] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    best: Best = Best()


class Trainer(Generic[DataT]):
    """Train a module on a task.

    Args:
        task: what is learned, and how.
        module: maps features to outputs; parameters that need no gradient are left as they are.
        data: where the clips come from.
        optimizer: of the module's parameters; a group's `scale` multiplies its learning rate.
        processes: those that train the module together.
        loss_dtype: in which the losses of an epoch are averaged.
    """

    def __init__(
        self,
        task: Task,
        module: nn.Module,
        data: DataT,
        optimizer: torch.optim.Optimizer,
        *,
        processes: Processes = Processes(),  # noqa: B008  immutable
        loss_dtype: torch.dtype = torch.float32,
    ) -> None:
        if task.device.type == "cpu":
            keep_freed_memory()
        self.task, self.module, self.data, self.optimizer = task, module, data, optimizer
        self.processes, self.loss_dtype = processes, loss_dtype
        self.averaged: AveragedModel | None = None
        if task.config.ema:
            average = get_ema_multi_avg_fn(task.config.ema)
            self.averaged = AveragedModel(module, multi_avg_fn=average)

    @property
    def kept(self) -> nn.Module:
        """Return the module whose weights are kept: the averaged one with `ema`."""
        module: nn.Module = self.averaged.module if self.averaged is not None else self.module
        return module

    def fit(
        self,
        after_epoch: AfterEpoch = lambda row: None,
        checkpoint: Checkpoint = Checkpoint(None),  # noqa: B008  it keeps nothing
    ) -> Trained:
        """Train all epochs, keep the weights of the best; `after_epoch` gets each row of history.

        Best is the highest `best_by` over the whole dev set; without one, the last epoch. Raises
        `UserError` when the loss is no longer a number.
        """
        config, curve = self.task.config, self._resumed(checkpoint)
        history = curve.history
        for row in history:
            after_epoch(row)
        with deferred():  # SIGTERM interrupts between two steps, after a checkpoint
            for epoch in epochs(config)[len(history) :]:
                if epoch.number - curve.best.epoch > (config.patience or math.inf):
                    break
                row = self._epoch(epoch, curve, checkpoint) | self.dev_scores(epoch.stage)
                score = chosen_score(config, row)
                if score is None or score > curve.best.score or config.keep == "last":
                    weights = {k: v.detach().cpu().clone() for k, v in learned(self.kept).items()}
                    curve.best = Best(epoch.number, -math.inf if score is None else score, weights)
                history.append(row)
                curve.losses = []
                after_epoch(row)
                if checkpoint.is_due():
                    checkpoint.write(self._state(curve))
                raise_if_requested()
            checkpoint.write(self._state(curve))
        best = curve.best
        if best.weights is not None:
            self.kept.load_state_dict(best.weights, strict=False)
        score = history[best.epoch].get(f"dev_{config.chosen_by}") if history else None
        return Trained(self.kept, history, best.epoch, score)

    def _epoch(self, epoch: Epoch, curve: Curve, checkpoint: Checkpoint) -> dict[str, float]:
        """Run the steps of an epoch that are left; return its row of the history."""
        losses = curve.losses
        if epoch.stage.new_optimizer and not losses:
            self.optimizer.state.clear()  # AdamW's moments, and the steps that it counts
        steps = self.data.steps(epoch, first=len(losses))
        self.module.train()
        for batches in steps.remaining:
            rate = epoch.rate(len(losses), steps.count)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)
            losses.append(self._step(epoch.stage, batches))
            if checkpoint.is_due():
                _require_finite(losses, epoch)
                checkpoint.write(self._state(curve))
            raise_if_requested()
        _require_finite(losses, epoch)
        return {
            "epoch": epoch.number,
            "lr": epoch.rate(steps.count - 1, steps.count),
            "train_loss": float(torch.stack(losses).to(self.loss_dtype).mean()),
            "padded_share": steps.padded_share,
        }

    def _step(self, stage: HeadConfig, batches: Sequence[MicroBatch]) -> Tensor:
        """Step on the gradient of batches; return their loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = backward(self.module, stage, batches, self.task.setting, self.processes)
        parameters = trainable(self.module)
        self.processes.sum_gradients(parameters)
        if stage.clip is not None:
            nn.utils.clip_grad_norm_(parameters, stage.clip)
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.module)
        return loss

    def dev_scores(self, stage: HeadConfig) -> dict[str, float]:
        """Return the loss and the scores of the whole dev set by the weights that are kept."""
        if not len(self.task.dev):
            return {}
        return self.task.scores(stage, *self.data.scored(self.kept.eval(), self.task.dev))

    def predict(self, utterances: Sequence[str]) -> Outputs:
        """Return every output float32 `(utterances, width)` by the weights that are kept."""
        return self.data.predict(self.kept.eval(), utterances)

    def _state(self, curve: Curve) -> State:
        ema = self.averaged
        averaged = {} if ema is None else learned(ema.module) | {"n_averaged": ema.n_averaged}
        return {
            "module": learned(self.module),
            "optimizer": self.optimizer.state_dict(),
            "averaged": averaged,
            "history": curve.history,
            "losses": curve.losses,
            "best": vars(curve.best),
        }

    def _resumed(self, checkpoint: Checkpoint) -> Curve:
        """Go to the state of a checkpoint; return how far that is."""
        if (state := checkpoint.read()) is None:
            return Curve()
        self.module.load_state_dict(state["module"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            self.averaged.n_averaged.copy_(state["averaged"].pop("n_averaged"))
            self.kept.load_state_dict(state["averaged"], strict=False)
        losses = [loss.to(self.task.device) for loss in state["losses"]]
        return Curve(state["history"], losses, Best(**state["best"]))


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """List the parameters of a module that are trained."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def learned(module: nn.Module) -> dict[str, Tensor]:
    """Return the part of a module's state that training changes."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def _require_finite(losses: Sequence[Tensor], epoch: Epoch) -> None:
    """Raise `UserError` for the first loss of an epoch that is no number."""
    for step, loss in enumerate(torch.stack(list(losses)).tolist(), start=1):
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {step} of epoch {epoch.number + 1}; set a smaller "
                "`lr:`, or set `clip:`."
            )
