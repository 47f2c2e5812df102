"""Train an encoder with its head, step by step.

1. Every epoch the sampler draws utterances and batches of similar length are cut, each process
   taking its share of every batch; the gradient is that of all clips of a step (`heads.training`),
   in however many parts, batches and processes they come.
2. After every epoch: the scores of the whole dev set; the best epoch's weights are kept.
3. Once a minute all that the next step needs is written, so that a training that was killed loses
   a minute and goes on bit for bit; another file has the best weights, written after an epoch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cache.reader import bucket, padded_share
from corpus.errors import UserError
from heads.config import HeadConfig
from heads.training.checkpoint import Checkpoint
from heads.training.losses import outputs_of, setting_of, total_loss
from heads.training.memory import keep_freed_memory
from heads.training.samplers import draw_epoch
from heads.training.schedule import rate, stages
from heads.training.step import Part, backward
from heads.training.targets import Labelled, Targets, batch_targets, soft_labels, teachable
from heads.training.trainer import (
    DROP,
    ORDER,
    STEP,
    AfterEpoch,
    Trained,
    chosen_score,
    dev_scores,
    scored_rows,
)
from ser.finetune.adapting import optimizer, parameter_groups
from ser.finetune.clips import Clips, Inputs
from ser.finetune.config import FineTuneConfig
from ser.finetune.joining import averaged
from ser.finetune.module import FineTuned
from ser.finetune.processes import Processes


@dataclass
class Kept:
    """Say where a training writes what it has come to: after an epoch, and amid one."""

    epoch: Checkpoint
    step: Checkpoint


NOWHERE = Kept(Checkpoint(None), Checkpoint(None))


class FineTuner:
    """Train a module on labelled utterances; `widths` are how many classes and genders there are.

    Raises `UserError` as `heads.training.losses.setting_of` does.
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
        said = config.training
        self.config, self.clips, self.processes = config, clips, processes
        self.train = train.take(teachable(said, train))
        self.dev = dev.take(scored_rows(said, dev))
        self.device, self.widths = processes.device, (len(classes), genders)
        soft = soft_labels(said, self.train) if self.train.votes is not None else None
        self.outputs = outputs_of(said, len(classes), genders)
        self.setting = setting_of(said, self.train, soft, classes, self.device)
        self.module = module.to(self.device)
        self.optimizer = optimizer(config, parameter_groups(config, module.encoder, module.head))
        self.averaged: AveragedModel | None = None
        if said.ema:
            average = get_ema_multi_avg_fn(said.ema)
            self.averaged = AveragedModel(module, multi_avg_fn=average)

    @property
    def kept(self) -> FineTuned:
        """Return the module whose weights count: the averaged one, where there is one."""
        module: Any = self.module if self.averaged is None else self.averaged.module
        assert isinstance(module, FineTuned)
        return module

    def fit(self, after_epoch: AfterEpoch = lambda row: None, to: Kept = NOWHERE) -> Trained:
        """Train all epochs, keep the weights of the best; `after_epoch` gets each row of history.

        Best is the highest `best_by` over the whole dev set; without one, the last epoch. Raises
        `UserError` when the loss is no longer a number.
        """
        said = self.config.training
        history: list[dict[str, Any]] = []
        best: dict[str, Any] = {"epoch": -1, "score": -math.inf, "state": self.kept.learned()}
        if (done := to.epoch.read()) is not None:
            history, best = done["history"], done["best"]
            self._load(done)
            for row in history:
                after_epoch(row)
        amid = to.step.read()
        if amid is None or amid["epoch"] != len(history):
            amid = None
        else:
            self._load(amid)
        patience = said.patience or math.inf
        for epoch, (stage, number) in enumerate(stages(said)):
            if epoch < len(history) or epoch - best["epoch"] > patience:
                continue
            losses, amid = amid["losses"] if amid else [], None
            row = self._epoch(epoch, stage, number, losses, to.step) | self.dev_scores(stage)
            score = chosen_score(said, row)
            if score is None or score > best["score"] or said.keep == "last":
                state = {k: v.detach().cpu().clone() for k, v in self.kept.learned().items()}
                best = {"epoch": epoch, "score": -math.inf if score is None else score}
                best["state"] = state
            history.append(row)
            to.epoch.write(self._state() | {"history": history, "best": best}, now=True)
            after_epoch(row)
        self.kept.load_state_dict(best["state"], strict=False)
        last = history[best["epoch"]].get(f"dev_{said.chosen_by}") if history else None
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
        self, epoch: int, stage: HeadConfig, number: int, losses: list[float], to: Checkpoint
    ) -> dict[str, Any]:
        """Take the steps of an epoch that are left; `losses` are of those that are done."""
        said, names = self.config.training, self.train.utterances
        rng = np.random.default_rng([said.seed, epoch, ORDER])
        order = draw_epoch(stage.sampler, self.train.classes, self.setting.neutral, rng)
        lengths = self.clips.costs(names, epoch)
        batches = bucket(order, lengths, stage.batch * self.processes.size, rng)
        steps = [
            batches[i : i + stage.accumulate] for i in range(0, len(batches), stage.accumulate)
        ]
        plan = [self._shares(step, lengths) for step in steps[len(losses) :]]
        drop = np.random.default_rng([said.seed, epoch, DROP])
        alone = batch_targets(stage, self.train, self.widths, self.device, drop)
        targets = averaged(alone, self.clips.joins.partners(names, epoch))
        ids = [[names[i] for i in share.rows] for shares in plan for share in shares]
        read, now = self.clips.batches(ids, epoch), 0.0
        self.module.train()
        for shares in plan:
            step = len(losses)
            seed = said.seed, epoch, STEP, step, self.processes.rank
            parts = [
                self._part(share, inputs, targets, (*seed, i))
                for i, (share, inputs) in enumerate(zip(shares, read, strict=False))
            ]
            now = rate(stage, number / stage.epochs, number * len(steps) + step)
            loss = self._step(stage, parts, now)
            if not math.isfinite(loss):
                raise UserError(
                    f"the loss is {loss} at step {step + 1} of epoch {epoch + 1}; take a smaller "
                    "`lr:`, or set `clip:`."
                )
            losses.append(loss)
            to.write(self._state() | {"epoch": epoch, "losses": losses})
        share = padded_share(batches, lengths)
        mean = float(np.mean(losses))
        return {"epoch": epoch, "lr": now, "train_loss": mean, "padded_share": share}

    def _shares(self, step: Sequence[Sequence[int]], lengths: np.ndarray) -> list["_Share"]:
        """Return what this process runs for one step: its clips, as many at a time as fit."""
        shares = []
        for batch in step:
            own = list(batch[self.processes.rank :: self.processes.size])
            # a last batch may have fewer clips than there are processes
            rows, teaches = (own, True) if own else (list(batch[:1]), False)
            shares += [_Share(part, teaches) for part in self._fitting(rows, lengths)]
        return shares

    def _fitting(self, rows: Sequence[int], lengths: np.ndarray) -> list[list[int]]:
        """Cut rows into parts within the budget of frames, padding included."""
        budget = self.config.budget or math.inf
        parts: list[list[int]] = []
        longest = 0
        for row in rows:
            longest = max(longest, int(lengths[row]))
            if not parts or longest * (len(parts[-1]) + 1) > budget:
                parts.append([])
                longest = int(lengths[row])
            parts[-1].append(row)
        return parts

    def _part(
        self,
        share: "_Share",
        inputs: Inputs,
        targets: Callable[[np.ndarray], Targets],
        seed: tuple[int, ...],
    ) -> Part:
        teaches = torch.from_numpy(inputs.usable & share.teaches).to(self.device)
        of_rows = _only(targets(np.asarray(share.rows)), teaches.unsqueeze(1))
        return Part({self.module.name: self._given(inputs)}, of_rows, seed)

    def _given(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        return inputs.inputs.to(self.device, non_blocking=True), inputs.sizes

    def _step(self, stage: HeadConfig, parts: Sequence[Part], now: float) -> float:
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
        """Return the scores of the whole dev set, those that the outputs have."""
        outputs = self.predict(self.dev.utterances)
        heard = answered(outputs)
        if not heard.any():
            return {}
        rows = self.dev.take(np.flatnonzero(heard))
        outputs = {name: values[heard] for name, values in outputs.items()}
        targets = batch_targets(stage, rows, self.widths, self.device)(np.arange(len(rows)))
        tensors = {name: torch.from_numpy(of).to(self.device) for name, of in outputs.items()}
        scores = {"dev_loss": float(total_loss(stage, tensors, targets, self.setting))}
        return scores | dev_scores(rows, outputs)

    def predict(self, utterances: Sequence[str]) -> dict[str, np.ndarray]:
        """Return every output float32 `(utterances, width)` by the weights that are kept.

        A clip that could not be read has NaN.
        """
        lengths = self.clips.costs(utterances, None)
        batches = bucket(range(len(utterances)), lengths, self.config.training.batch, None)
        parts = [part for batch in batches for part in self._fitting(batch, lengths)]
        own = parts[self.processes.rank :: self.processes.size]
        plan = [[utterances[i] for i in batch] for batch in own]
        module = self.kept.eval()
        out: dict[str, Tensor] = {}
        amp = self.config.training.amp and self.device.type == "cuda"
        for batch, positions in zip(self.clips.batches(plan, None), own, strict=True):
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=amp):
                answers = module({module.name: self._given(batch)})
            silent = torch.from_numpy(~batch.usable).to(self.device).unsqueeze(1)
            for name, values in answers.items():
                rows = out.setdefault(name, torch.zeros(len(utterances), values.shape[1]))
                rows[positions] = values.float().masked_fill(silent, math.nan).cpu()
        return {name: of.numpy() for name, of in self._together(out, len(utterances)).items()}

    def _together(self, out: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Put together what the processes say, each of its own rows."""
        found = {}
        for name, width in self.outputs.items():
            own = out.get(name, torch.zeros(rows, width))
            found[name] = self.processes.summed(own.to(self.device)).cpu()
        return found


@dataclass(frozen=True)
class _Share:
    """Hold the rows of one run of the model; without `teaches` it only keeps step with others."""

    rows: list[int]
    teaches: bool


def answered(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which rows of what `predict` says are of clips that could be read."""
    each = [~np.isnan(values).any(axis=1) for values in outputs.values()]
    known: np.ndarray = np.logical_and.reduce(each)
    return known


def _only(targets: Targets, wanted: Tensor) -> Targets:
    """Return targets that teach nothing but of the wanted rows, bool `(batch, 1)`."""

    def of(rows: Tensor) -> Tensor:
        return torch.where(wanted, rows, 0.0)

    ratings = targets.attributes
    blank = None if ratings is None else torch.where(wanted, ratings, math.nan)
    return replace(targets.each(of), attributes=blank)
