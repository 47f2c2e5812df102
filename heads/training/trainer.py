"""Train one head from the cache.

1. Every epoch: the sampler draws utterances, each is taken clean or from a view, batches of similar
   length are cut, the losses summed, AdamW steps; the learning rate follows its schedule by epoch.
   So an epoch has as many draws with views as without.
2. After every epoch: macro-F1 over the whole dev set; the best epoch's weights are kept.
3. At the end: logits of every utterance of every split, by the best weights.

Everything random hangs on `seed`: on one machine the same call gives the same bits.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cache.reader import Batch, BatchReader, Column, bucket, padded_share
from corpus.errors import UserError
from heads.config import HeadConfig
from heads.head import Standardised, build_head, mask_of
from heads.losses import Setting, class_weights, extras_of, total_loss
from heads.samplers import draw_epoch
from heads.views import view_rows
from score.metrics import confusion, macro_f1

EVAL_BATCH = 4  # times the training batch: no gradients are kept


@dataclass(frozen=True)
class Labelled:
    """Hold the utterances of a split and their class indices `(utterances,)`, -1 without one."""

    utterances: list[str]
    labels: np.ndarray


@dataclass
class TrainedHead:
    """Hold a trained head and how it came to be; `best_macro_f1` is None without a dev set."""

    module: nn.Module
    history: list[dict[str, Any]]
    best_epoch: int
    best_macro_f1: float | None


class Trainer:
    """Train one head on labelled utterances.

    With `config.views` the columns hold a row of every view for every training utterance, as
    `heads.views.join_views` gives them. Raises `UserError` for a class without a training
    utterance, a neutral class that is not there, or a feature the head cannot read.
    """

    def __init__(
        self,
        config: HeadConfig,
        columns: Mapping[str, Column],
        classes: Sequence[str],
        *,
        train: Labelled,
        dev: Labelled,
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.columns, self.classes = config, columns, classes
        self.train, self.dev = _labelled_only(train), _labelled_only(dev)
        self.device = torch.device(device)
        self.setting = _setting(config, self.train, classes, device)
        dims = {name: _dim(column, name) for name, column in columns.items()}
        module = build_head(config, dims, len(classes), extras_of(config))
        moments = {
            use.name: columns[use.name].cache.moments(self.train.utterances)
            for use in config.features
            if use.normalize == "corpus"
        }
        self.module = (Standardised(module, moments) if moments else module).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.reader = BatchReader(columns, pin=self.device.type == "cuda")
        # what an epoch draws from: row i + k * len(train) is utterance i in the k-th view, 0 clean
        self.rows = Labelled(
            self.train.utterances + view_rows(config.views, self.train.utterances),
            np.tile(self.train.labels, 1 + len(config.views)),
        )
        self.lengths = _lengths(columns, self.rows.utterances)

    def fit(
        self, after_epoch: Callable[[Mapping[str, Any]], None] = lambda row: None
    ) -> TrainedHead:
        """Train all epochs, keep the weights of the best; `after_epoch` gets each row of history.

        Best is the highest macro-F1 over the whole dev set; without one, the last epoch.
        """
        history: list[dict[str, Any]] = []
        best_epoch, best_score, best = 0, -1.0, self.module.state_dict()
        for epoch in range(self.config.epochs):
            row = self._epoch(epoch)
            score = self._dev_macro_f1()
            if score is not None:
                row["dev_macro_f1"] = score
            if score is None or score > best_score:
                best_epoch, best_score = epoch, score if score is not None else -1.0
                best = copy.deepcopy(self.module.state_dict())
            history.append(row)
            after_epoch(row)
        self.module.load_state_dict(best)
        known = best_score if self.dev.utterances else None
        return TrainedHead(self.module, history, best_epoch, known)

    def _epoch(self, epoch: int) -> dict[str, Any]:
        config = self.config
        rng = np.random.default_rng([config.seed, epoch])
        order = draw_epoch(config, self.train.labels, self.setting.neutral, rng)
        drawn = order + len(self.train.utterances) * self._draw_views(len(order), epoch)
        batches = bucket(drawn, self.lengths, config.batch, rng)
        rate = _learning_rate(config, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.module.train()
        plan = [[self.rows.utterances[i] for i in batch] for batch in batches]
        losses = [
            self._step(batch, self.rows.labels[positions])
            for batch, positions in zip(self.reader.batches(plan), batches, strict=True)
        ]
        return {
            "epoch": epoch,
            "lr": rate,
            "train_loss": float(torch.stack(losses).mean()),
            "padded_share": padded_share(batches, self.lengths),
        }

    def _draw_views(self, draws: int, epoch: int) -> np.ndarray:
        """Return the number of each draw's view, 0 for clean, int64 `(draws,)`."""
        views = len(self.config.views)
        if not views:
            return np.zeros(draws, dtype=np.int64)
        # a stream of its own, so that the order of an epoch is what it is without views
        rng = np.random.default_rng([self.config.seed, epoch, 1])
        view = 1 + rng.integers(views, size=draws)
        return np.where(rng.random(draws) < self.config.augmented, view, 0)

    def _step(self, batch: Batch, labels: np.ndarray) -> Tensor:
        features = _features(batch, self.device)
        on_gpu = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu):
            outputs = self.module(features)
        # losses stay in float32: their logarithms do not survive bfloat16
        outputs = {name: value.float() for name, value in outputs.items()}
        target = torch.from_numpy(labels).to(self.device)
        loss = total_loss(self.config, outputs, target, self.setting)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _dev_macro_f1(self) -> float | None:
        if not self.dev.utterances:
            return None
        predicted = self.logits(self.dev.utterances).argmax(axis=1)
        matrix = confusion(self.dev.labels, predicted, len(self.classes))
        return float(macro_f1(matrix))

    def logits(self, utterances: Sequence[str]) -> np.ndarray:
        """Return logits float32 `(utterances, classes)` by the weights there are now."""
        lengths = _lengths(self.columns, utterances)
        batches = bucket(range(len(utterances)), lengths, EVAL_BATCH * self.config.batch, None)
        plan = [[utterances[i] for i in batch] for batch in batches]
        out = np.empty((len(utterances), len(self.classes)), dtype=np.float32)
        self.module.eval()
        with torch.inference_mode():
            for batch, positions in zip(self.reader.batches(plan), batches, strict=True):
                logits = self.module(_features(batch, self.device))["logits"]
                out[positions] = logits.float().cpu().numpy()
        return out


def _labelled_only(rows: Labelled) -> Labelled:
    known = rows.labels >= 0
    return Labelled(
        [u for u, k in zip(rows.utterances, known, strict=True) if k], rows.labels[known]
    )


def _setting(config: HeadConfig, train: Labelled, classes: Sequence[str], device: str) -> Setting:
    neutral = classes.index(config.neutral) if config.neutral in classes else None
    apart = config.sampler == "neutral_expressive" or "neutral_logit" in extras_of(config)
    if apart and neutral is None:
        raise UserError(
            f"heads: sml and neutral_expressive need the class '{config.neutral}', which is not "
            "among corpus.classes; name the neutral class with `neutral:`."
        )
    return Setting(class_weights(train.labels, classes).to(device), neutral)


def _dim(column: Column, name: str) -> int:
    if len(column.cache.item_shape) != 1:
        raise UserError(
            f"feature '{name}': it holds all layers, which this head cannot read; extract one "
            "layer, or a mean of some, with `layer:`."
        )
    return column.cache.dim


def _learning_rate(config: HeadConfig, epoch: int) -> float:
    if config.schedule == "constant":
        return config.lr
    cosine = (1 + np.cos(np.pi * epoch / config.epochs)) / 2
    return float(config.lr_min + (config.lr - config.lr_min) * cosine)


def _lengths(columns: Mapping[str, Column], utterances: Sequence[str]) -> np.ndarray:
    """Return the frames of the longest feature: what the padding of a batch is about."""
    lengths: np.ndarray = np.max([c.lengths(utterances) for c in columns.values()], axis=0)
    return lengths


def _features(batch: Batch, device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    features = {}
    for name, frames in batch.frames.items():
        mask = mask_of(batch.lengths[name], frames.shape[1])
        features[name] = (frames.to(device), mask.to(device))
    return features
