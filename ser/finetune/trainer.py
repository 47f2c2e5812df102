"""Train an encoder with its head, step by step.

1. In every epoch the sampler draws utterances, which are batched by similar length; each process
   takes its share of every batch. The gradient is that of all clips of a step
   (`ser.heads.training`), however they are divided into parts, batches and processes.
2. After every epoch the whole dev set is scored, and the best epoch's weights are kept.
3. Once a minute the complete state is written, so that an interrupted training loses at most a
   minute and resumes with identical results; another file has the best weights, written after
   each epoch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ser.cache.reader import bucket, padded_share
from ser.corpus.errors import UserError
from ser.finetune.adapting import optimizer, parameter_groups
from ser.finetune.clips import Clips, Inputs
from ser.finetune.config import FineTuneConfig
from ser.finetune.joining import averaged
from ser.finetune.module import FineTuned
from ser.finetune.processes import Processes
from ser.finetune.shares import Share, fitting, share_of_process
from ser.heads.config import HeadConfig
from ser.heads.training.checkpoint import Checkpoint
from ser.heads.training.dev import chosen_score, dev_scores, scored_rows
from ser.heads.training.memory import keep_freed_memory
from ser.heads.training.objective import outputs_of, setting_of, total_loss
from ser.heads.training.samplers import draw_epoch
from ser.heads.training.schedule import rate, stages
from ser.heads.training.step import MicroBatch, backward
from ser.heads.training.targets import Labelled, Targets, batch_targets, soft_labels, teachable
from ser.heads.training.trainer import (
    DROP,
    ORDER,
    STEP,
    AfterEpoch,
    Trained,
)


@dataclass
class Checkpoints:
    """The checkpoints of a training: one written after each epoch, one within epochs."""

    epoch: Checkpoint
    step: Checkpoint


NO_CHECKPOINTS = Checkpoints(Checkpoint(None), Checkpoint(None))


class FineTuner:
    """The trainer of a module on labelled utterances.

    Raises `UserError` as `ser.heads.training.losses.setting_of` does.
    """

    def __init__(
        self,
        config: FineTuneConfig,
        module: FineTuned,
        clips: Clips,
        classes: Sequence[str],
        *,
        train: Labelled,
        dev: Labelled,
        genders: int = 0,
        processes: Processes = Processes(),  # noqa: B008  immutable
    ) -> None:
        if processes.device.type == "cpu":
            keep_freed_memory()
        training = config.training
        self.config, self.clips, self.processes = config, clips, processes
        self.train = train.take(teachable(training, train))
        self.dev = dev.take(scored_rows(training, dev))
        self.device = processes.device
        self.widths = len(classes), genders  # numbers of classes and of genders
        soft = soft_labels(training, self.train) if self.train.votes is not None else None
        self.outputs = outputs_of(training, len(classes), genders)
        self.setting = setting_of(training, self.train, soft, classes, self.device)
        self.module = module.to(self.device)
        self.optimizer = optimizer(config, parameter_groups(config, module.encoder, module.head))
        self.averaged: AveragedModel | None = None
        if training.ema:
            average = get_ema_multi_avg_fn(training.ema)
            self.averaged = AveragedModel(module, multi_avg_fn=average)

    @property
    def kept(self) -> FineTuned:
        """The module that is evaluated and saved: the averaged one, where there is one."""
        module: Any = self.module if self.averaged is None else self.averaged.module
        assert isinstance(module, FineTuned)
        return module

    def fit(
        self, after_epoch: AfterEpoch = lambda row: None, checkpoints: Checkpoints = NO_CHECKPOINTS
    ) -> Trained:
        """Train all epochs and keep the best weights; `after_epoch` gets each row of the history.

        The best epoch has the highest `best_by` on the whole dev set; without one it is the last.
        Raises `UserError` when the loss is not finite.
        """
        training = self.config.training
        history: list[dict[str, Any]] = []
        best: dict[str, Any] = {"epoch": -1, "score": -math.inf, "state": self.kept.learned()}
        if (saved := checkpoints.epoch.read()) is not None:
            history, best = saved["history"], saved["best"]
            self._load(saved)
            for row in history:
                after_epoch(row)
        partial = checkpoints.step.read()
        if partial is None or partial["epoch"] != len(history):
            partial = None
        else:
            self._load(partial)
        patience = training.patience or math.inf
        for epoch, (stage, number) in enumerate(stages(training)):
            if epoch < len(history) or epoch - best["epoch"] > patience:
                continue
            losses, partial = partial["losses"] if partial else [], None
            row = self._epoch(epoch, stage, number, losses, checkpoints.step) | self.dev_scores(
                stage
            )
            score = chosen_score(training, row)
            if score is None or score > best["score"] or training.keep == "last":
                state = {k: v.detach().cpu().clone() for k, v in self.kept.learned().items()}
                best = {"epoch": epoch, "score": -math.inf if score is None else score}
                best["state"] = state
            history.append(row)
            checkpoints.epoch.write(self._state() | {"history": history, "best": best}, now=True)
            after_epoch(row)
        self.kept.load_state_dict(best["state"], strict=False)
        last = history[best["epoch"]].get(f"dev_{training.chosen_by}") if history else None
        return Trained(self.kept, history, best["epoch"], last)

    def _state(self) -> dict[str, Any]:
        averaged: dict[str, Any] = {}
        if self.averaged is not None:
            averaged = self.kept.learned() | {"n_averaged": self.averaged.n_averaged}
        return {
            "module": self.module.learned(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": averaged,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["module"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            averaged = dict(state["averaged"])
            self.averaged.n_averaged.copy_(averaged.pop("n_averaged"))
            self.kept.load_state_dict(averaged, strict=False)

    def _epoch(
        self,
        epoch: int,
        stage: HeadConfig,
        number: int,
        losses: list[float],
        checkpoint: Checkpoint,
    ) -> dict[str, Any]:
        """Run the remaining steps of an epoch; `losses` are those of the steps already run."""
        seed, names = self.config.training.seed, self.train.utterances
        rng = np.random.default_rng([seed, epoch, ORDER])
        done = number / stage.epochs
        order = draw_epoch(stage.sampler, self.train.classes, self.setting.neutral, rng, done)
        lengths = self.clips.costs(names, epoch)
        batches = bucket(order, lengths, stage.batch * self.processes.size, rng)
        steps = [
            batches[i : i + stage.accumulate] for i in range(0, len(batches), stage.accumulate)
        ]
        budget = self.config.budget
        plan = [
            share_of_process(step, lengths, budget, self.processes) for step in steps[len(losses) :]
        ]
        drop = np.random.default_rng([seed, epoch, DROP])
        clip_targets = batch_targets(stage, self.train, self.widths, self.device, drop)
        targets = averaged(clip_targets, self.clips.joins.partners(names, epoch))
        ids = [[names[i] for i in share.rows] for shares in plan for share in shares]
        batches_read, now = self.clips.batches(ids, epoch), 0.0
        self.module.train()
        for shares in plan:
            step = len(losses)
            step_seed = seed, epoch, STEP, step, self.processes.rank
            parts = [
                self._part(share, inputs, targets, (*step_seed, i))
                for i, (share, inputs) in enumerate(zip(shares, batches_read, strict=False))
            ]
            now = rate(stage, done, number * len(steps) + step)
            loss = self._step(stage, parts, now)
            if not math.isfinite(loss):
                raise UserError(
                    f"the loss is {loss} at step {step + 1} of epoch {epoch + 1}; set a smaller "
                    "`lr:`, or `clip:`."
                )
            losses.append(loss)
            checkpoint.write(self._state() | {"epoch": epoch, "losses": losses})
        share = padded_share(batches, lengths)
        mean = float(np.mean(losses))
        return {"epoch": epoch, "lr": now, "train_loss": mean, "padded_share": share}

    def _part(
        self,
        share: Share,
        inputs: Inputs,
        targets: Callable[[np.ndarray], Targets],
        seed: tuple[int, ...],
    ) -> MicroBatch:
        trains = torch.from_numpy(inputs.usable & share.trains).to(self.device)
        masked = _only(targets(np.asarray(share.rows)), trains.unsqueeze(1))
        return MicroBatch({self.module.name: self._to_device(inputs)}, masked, seed)

    def _to_device(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        return inputs.inputs.to(self.device, non_blocking=True), inputs.sizes

    def _step(self, stage: HeadConfig, parts: Sequence[MicroBatch], now: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = now * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        gather = self.processes.gather if self.processes.size > 1 else None
        loss = backward(self.module, stage, parts, self.setting, gather)
        learned = self.module.trainable()
        self.processes.sum_gradients(learned)
        if stage.clip is not None:
            nn.utils.clip_grad_norm_(learned, stage.clip)
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.module)
        return float(loss)

    def dev_scores(self, stage: HeadConfig) -> dict[str, float]:
        """Return the scores on the whole dev set, of each kind of output."""
        outputs = self.predict(self.dev.utterances)
        readable = readable_rows(outputs)
        if not readable.any():
            return {}
        rows = self.dev.take(np.flatnonzero(readable))
        outputs = {name: values[readable] for name, values in outputs.items()}
        targets = batch_targets(stage, rows, self.widths, self.device)(np.arange(len(rows)))
        tensors = {
            name: torch.from_numpy(values).to(self.device) for name, values in outputs.items()
        }
        scores = {"dev_loss": float(total_loss(stage, tensors, targets, self.setting))}
        return scores | dev_scores(rows, outputs, self.config.training.metrics)

    def predict(self, utterances: Sequence[str]) -> dict[str, np.ndarray]:
        """Return every output, float32 `(utterances, width)`, of the best weights.

        Rows of clips that could not be read are NaN.
        """
        lengths = self.clips.costs(utterances, None)
        batches = bucket(range(len(utterances)), lengths, self.config.training.batch, None)
        parts = [part for batch in batches for part in fitting(batch, lengths, self.config.budget)]
        local = parts[self.processes.rank :: self.processes.size]
        plan = [[utterances[i] for i in batch] for batch in local]
        module = self.kept.eval()
        out: dict[str, Tensor] = {}
        amp = self.config.training.amp and self.device.type == "cuda"
        for batch, positions in zip(self.clips.batches(plan, None), local, strict=True):
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=amp):
                outputs = module({module.name: self._to_device(batch)})
            silent = torch.from_numpy(~batch.usable).to(self.device).unsqueeze(1)
            for name, values in outputs.items():
                rows = out.setdefault(name, torch.zeros(len(utterances), values.shape[1]))
                rows[positions] = values.float().masked_fill(silent, math.nan).cpu()
        return {
            name: values.numpy() for name, values in self._gathered(out, len(utterances)).items()
        }

    def _gathered(self, out: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Combine the outputs of all processes, each of which has its own rows."""
        gathered = {}
        for name, width in self.outputs.items():
            values = out.get(name, torch.zeros(rows, width))
            gathered[name] = self.processes.summed(values.to(self.device)).cpu()
        return gathered


def readable_rows(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which rows of the outputs of `predict` are those of clips that could be read."""
    finite = [~np.isnan(values).any(axis=1) for values in outputs.values()]
    readable: np.ndarray = np.logical_and.reduce(finite)
    return readable


def _only(targets: Targets, trained: Tensor) -> Targets:
    """Return the targets with no effect on training except for rows of `trained` `(batch, 1)`."""

    def masked(rows: Tensor) -> Tensor:
        return torch.where(trained, rows, 0.0)

    ratings = targets.attributes
    blank = None if ratings is None else torch.where(trained, ratings, math.nan)
    return replace(targets.each(masked), attributes=blank)
