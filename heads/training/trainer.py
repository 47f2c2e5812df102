"""Train one head from the cache.

1. Every epoch: the sampler draws utterances, each is taken clean or from a view, batches of similar
   length are cut, features are augmented, the losses summed, AdamW steps.
2. After every epoch: the scores of the whole dev set; the best epoch's weights are kept.
3. At the end, or when no better epoch has come for `patience` epochs: that epoch's weights.

Everything random depends on `seed` and the number of the epoch: on one machine the same call gives
the same bits, also when it was interrupted and resumes from its checkpoint.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ser.cache.reader import BatchReader, Clip, bucket, padded_share
from ser.corpus.errors import UserError
from ser.corpus.registry import origin
from ser.heads.config import HeadConfig
from ser.heads.head import build_head
from ser.heads.inputs import Prepared
from ser.heads.published import load_init
from ser.heads.training.checkpoint import Checkpoint
from ser.heads.training.dev import chosen_score, dev_scores, scored_rows
from ser.heads.training.memory import keep_freed_memory
from ser.heads.training.objective import outputs_of, setting_of, total_loss
from ser.heads.training.reading import Reading
from ser.heads.training.samplers import draw_epoch
from ser.heads.training.schedule import rate, stages
from ser.heads.training.solving import solve
from ser.heads.training.step import MicroBatch, backward
from ser.heads.training.targets import Labelled, Targets, batch_targets, soft_labels, teachable

EVAL_BATCH = 4  # times the training batch: no gradients are kept
ORDER, VIEW, DROP, STEP = range(4)  # the streams of random numbers of an epoch
AfterEpoch = Callable[[Mapping[str, Any]], None]


@dataclass
class Trained:
    """A trained head and its history; `best_score` is None without a dev set.

    One that was solved has no history, but the candidates that were compared.
    """

    module: nn.Module
    history: list[dict[str, Any]]
    best_epoch: int
    best_score: float | None
    candidates: Sequence[Mapping[str, Any]] = ()


class Trainer:
    """Train one head on labelled utterances.

    With `config.views` the columns of `reading` have these views. `genders` is how many the loss
    `gender` distinguishes. Raises `UserError` for a class without a training utterance, or a
    neutral class that is not among the classes.
    """

    def __init__(
        self,
        config: HeadConfig,
        reading: Reading,
        classes: Sequence[str],
        *,
        train: Labelled,
        dev: Labelled,
        genders: int = 0,
        device: str = "cpu",
    ) -> None:
        if device == "cpu":
            keep_freed_memory()
        torch.manual_seed(config.seed)
        self.config, self.reading, self.classes = config, reading, classes
        self.train = train.take(teachable(config, train))
        self.dev = dev.take(scored_rows(config, dev))
        self.device = torch.device(device)
        self.genders = genders
        soft = soft_labels(config, self.train) if self.train.votes is not None else None
        self.setting = setting_of(config, self.train, soft, classes, device)
        columns = reading.columns
        dims = {name: column.item_shape[-1] for name, column in columns.items()}
        layers = {
            name: column.item_shape[0] if len(column.item_shape) > 1 else 0
            for name, column in columns.items()
        }
        self.outputs = outputs_of(config, len(classes), genders)
        head = build_head(config, dims, self.outputs)
        moments, free = self._moments(), config.free_sums
        self.module = Prepared(head, layers, moments, self.outputs, reading.speakers, free=free)
        self.module.to(self.device)
        self.reading = reading.drawn_to({f: self.module.moments_of(f) for f in reading.speakers})
        if config.init is not None:
            load_init(self.module, config.init)
        if not any(True for _ in self.module.parameters()):
            raise UserError(
                f"the head '{config.head}' ({origin(type(head))}) has no parameters to train; "
                "assign its layers to attributes of the module."
            )
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(),
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self.averaged: AveragedModel | None = None
        self.reader = BatchReader(columns, pin=self.device.type == "cuda", check=True)
        self.views = ("", *config.views)  # "" is clean
        lengths = [
            reading.lengths([Clip(u, view) for u in self.train.utterances]) for view in self.views
        ]
        self.lengths = np.stack(lengths)  # (views, train)
        self._calibrate(head)
        if config.ema:
            average = get_ema_multi_avg_fn(config.ema)
            self.averaged = AveragedModel(self.module, multi_avg_fn=average)

    def _calibrate(self, head: nn.Module) -> None:
        """Fit the standardisation of a head's embedding on all training clips, clean."""
        standard = getattr(head, "standard", None)
        if standard is None or self.config.init is not None or self.config.architecture.solved:
            return
        batches: list[Tensor] = []
        watch = standard.register_forward_pre_hook(lambda _, args: batches.append(args[0].cpu()))
        self.predict(self.train.utterances)
        watch.remove()
        standard.fit(torch.cat(batches))

    def _moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        moments = {}
        for use in self.config.features:
            if use.normalize != "none":
                column = self.reading.columns[use.name]
                mean, deviation = column.cache.moments(self.train.utterances)
                moments[use.name] = column.side_by_side(mean), column.side_by_side(deviation)
        return moments

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
        if self.config.architecture.solved:
            return self._solve(after_epoch)
        history: list[dict[str, Any]] = []
        best: dict[str, Any] = {"epoch": -1, "score": -math.inf, "state": self.kept.state_dict()}
        state = checkpoint.read()
        if state is not None:
            history, best = state["history"], state["best"]
            self._load(state)
            for row in history:
                after_epoch(row)
        patience = self.config.patience or math.inf
        for epoch, (stage, number) in enumerate(stages(self.config)):
            if epoch < len(history) or epoch - best["epoch"] > patience:
                continue
            row = self._epoch(epoch, stage, number) | self.dev_scores(stage)
            score = chosen_score(self.config, row)
            if score is None or score > best["score"] or self.config.keep == "last":
                state = copy.deepcopy(self.kept.state_dict())
                best = {"epoch": epoch, "score": -math.inf if score is None else score}
                best["state"] = state
            history.append(row)
            after_epoch(row)
            checkpoint.write(self._state() | {"history": history, "best": best})
        checkpoint.write(self._state() | {"history": history, "best": best}, now=True)
        self.kept.load_state_dict(best["state"])
        score = history[best["epoch"]].get(f"dev_{self.config.chosen_by}") if history else None
        return Trained(self.kept, history, best["epoch"], score)

    def _solve(self, after_epoch: AfterEpoch) -> Trained:
        candidates = solve(self.module, self.config, len(self.classes), self.train, self._read)
        row = {"epoch": 0} | self.dev_scores(self.config)
        after_epoch(row)
        score = chosen_score(self.config, row)
        return Trained(self.kept, [], -1, score, candidates)

    def _read(
        self, utterances: Sequence[str]
    ) -> Iterator[tuple[list[int], dict[str, tuple[Tensor, Tensor]]]]:
        """Yield the positions and the features of utterances, in batches of similar length."""
        lengths = self.reading.lengths(utterances)
        batches = bucket(range(len(utterances)), lengths, EVAL_BATCH * self.config.batch, None)
        plan = [[utterances[i] for i in batch] for batch in batches]
        for read, positions in zip(self.reader.batches(plan), batches, strict=True):
            yield positions, self.reading.features(read, self.device)

    def _state(self) -> dict[str, Any]:
        averaged = self.averaged.state_dict() if self.averaged is not None else {}
        return {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": averaged,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    def _epoch(self, epoch: int, stage: HeadConfig, number: int) -> dict[str, Any]:
        labels = self.train.classes
        rng = self._random(epoch, ORDER)
        done = number / stage.epochs
        order = draw_epoch(stage.sampler, labels, self.setting.neutral, rng, done)
        view = self._draw_views(len(order), epoch)
        clips = [
            Clip(self.train.utterances[i], self.views[v])
            for i, v in zip(order.tolist(), view.tolist(), strict=True)
        ]
        lengths = self.lengths[view, order]
        batches = bucket(range(len(clips)), lengths, stage.batch, rng)
        targets = self._targets_of(self.train, self._random(epoch, DROP))
        plan = [[clips[i] for i in batch] for batch in batches]
        self.module.train()
        steps = math.ceil(len(batches) / stage.accumulate)
        parts: list[MicroBatch] = []
        losses: list[Tensor] = []
        for i, batch in enumerate(self.reader.batches(plan)):
            # a batch is valid until the next: those that wait for others are copied
            features = self.reading.features(batch, self.device, copy=stage.accumulate > 1)
            parts.append(
                MicroBatch(features, targets(order[batches[i]]), (self.config.seed, epoch, STEP, i))
            )
            if len(parts) == stage.accumulate or i + 1 == len(batches):
                self._set_rate(stage, number, steps, len(losses))
                losses.append(self._step(stage, parts))
                parts = []
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} in epoch {epoch + 1}; set a smaller `lr:`, or set `clip:`."
            )
        return {
            "epoch": epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss,
            "padded_share": padded_share(batches, lengths),
        }

    def _set_rate(self, stage: HeadConfig, number: int, steps: int, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate(stage, number / stage.epochs, number * steps + step)

    def _random(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, epoch, stream])

    def _draw_views(self, draws: int, epoch: int) -> np.ndarray:
        """Return the number of each draw's view, 0 for clean, int64 `(draws,)`."""
        views = len(self.config.views)
        if not views:
            return np.zeros(draws, dtype=np.int64)
        # a stream of its own, so that the order of an epoch is what it is without views
        rng = self._random(epoch, VIEW)
        view = 1 + rng.integers(views, size=draws)
        return np.where(rng.random(draws) < self.config.augmented, view, 0)

    def _targets_of(
        self, rows: Labelled, drop: np.random.Generator | None = None
    ) -> Callable[[np.ndarray], Targets]:
        """Return a function of positions in `rows` to their targets, float32, on the device."""
        widths = len(self.classes), self.genders
        return batch_targets(self.config, rows, widths, self.device, drop)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)

    def _step(self, stage: HeadConfig, parts: Sequence[MicroBatch]) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = backward(self.module, stage, parts, self.setting)
        if stage.clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), stage.clip)
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.module)
        return loss

    def dev_scores(self, stage: HeadConfig) -> dict[str, float]:
        """Return the scores of the whole dev set, those that the head's outputs have."""
        if not self.dev.utterances:
            return {}
        outputs = self.predict(self.dev.utterances)
        targets = self._targets_of(self.dev)(np.arange(len(self.dev)))
        tensors = {name: self._tensor(values) for name, values in outputs.items()}
        scores = {"dev_loss": float(total_loss(stage, tensors, targets, self.setting))}
        return scores | dev_scores(self.dev, outputs, self.config.metrics)

    def predict(self, utterances: Sequence[str]) -> dict[str, np.ndarray]:
        """Return every output float32 `(utterances, width)` by the weights that are kept."""
        return predict_outputs(
            self.kept.eval(),
            self.reading,
            self.reader,
            utterances,
            batch=EVAL_BATCH * self.config.batch,
            widths=self.outputs,
        )


def predict_outputs(
    module: nn.Module,
    reading: Reading,
    reader: BatchReader,
    utterances: Sequence[str],
    *,
    batch: int,
    widths: Mapping[str, int],
) -> dict[str, np.ndarray]:
    """Return every output of a module, float32 `(utterances, width)`.

    `batch` is in utterances, `widths` those of the outputs by name; `reader` reads the columns of
    `reading`.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    lengths = reading.lengths(utterances)
    batches = bucket(range(len(utterances)), lengths, batch, None)
    plan = [[utterances[i] for i in batch] for batch in batches]
    out = {
        name: np.empty((len(utterances), width), dtype=np.float32) for name, width in widths.items()
    }
    with torch.inference_mode():
        for read, positions in zip(reader.batches(plan), batches, strict=True):
            outputs = module(reading.features(read, device))
            for name, values in out.items():
                values[positions] = outputs[name].float().cpu().numpy()
    return out
