"""What a training learns: the rows that can be trained on and scored, their targets, its losses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ser.heads.config import HeadConfig
from ser.heads.training.losses import Setting
from ser.heads.training.objective import outputs_of, setting_of, total_loss
from ser.heads.training.samplers import draw_epoch
from ser.heads.training.schedule import Epoch
from ser.heads.training.targets import Labelled, Targets, one_hot, soft_labels, teachable
from ser.score.attributes import ccc
from ser.score.metrics import confusion, reported

ORDER, VIEW, DROP, STEP = range(4)  # the streams of random numbers of an epoch


@dataclass(frozen=True)
class Task:
    """What a head or a fine-tuned model learns.

    `train` and `dev` are the rows that can be trained on and scored; `outputs` the widths of the
    outputs that the losses need; `setting` the statistics of train that they use. `genders` is how
    many the loss `gender` distinguishes.
    """

    config: HeadConfig
    train: Labelled
    dev: Labelled
    classes: int
    genders: int
    outputs: Mapping[str, int]
    setting: Setting
    device: torch.device

    @classmethod
    def of(
        cls,
        config: HeadConfig,
        classes: Sequence[str],
        *,
        train: Labelled,
        dev: Labelled,
        genders: int = 0,
        device: str | torch.device = "cpu",
    ) -> "Task":
        """Select the rows and take the statistics; raises `UserError` as `setting_of` does."""
        device = torch.device(device)
        train, dev = train.take(teachable(config, train)), dev.take(scored_rows(config, dev))
        soft = soft_labels(config, train) if train.votes is not None else None
        outputs = outputs_of(config, len(classes), genders)
        setting = setting_of(config, train, soft, classes, device)
        return cls(config, train, dev, len(classes), genders, outputs, setting, device)

    def random(self, epoch: Epoch, stream: int) -> np.random.Generator:
        """Return the generator of one of an epoch's streams of random numbers."""
        return np.random.default_rng([self.config.seed, epoch.number, stream])

    def draw(self, epoch: Epoch) -> tuple[np.ndarray, np.random.Generator]:
        """Return the training rows that the sampler draws, and the generator that it has used."""
        rng, sampler = self.random(epoch, ORDER), epoch.stage.sampler
        return draw_epoch(sampler, self.train.classes, self.setting.neutral, rng, epoch.done), rng

    def train_targets(self, epoch: Epoch) -> Callable[[np.ndarray], Targets]:
        """Return a function of positions in `train` to their targets in an epoch."""
        return self._targets(self.train, self.random(epoch, DROP))

    def scores(
        self, stage: HeadConfig, rows: Labelled, outputs: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """Return the loss and the scores of the outputs for some rows of dev; empty for none."""
        if not len(rows):
            return {}
        targets = self._targets(rows)(np.arange(len(rows)))
        tensors = {n: torch.from_numpy(values).to(self.device) for n, values in outputs.items()}
        loss = {"dev_loss": float(total_loss(stage, tensors, targets, self.setting))}
        return loss | dev_scores(rows, outputs, self.config.metrics)

    def _targets(
        self, rows: Labelled, drop: np.random.Generator | None = None
    ) -> Callable[[np.ndarray], Targets]:
        """Return what gives the targets at positions of `rows`; `drop` is for `soft_labels`."""
        soft = None if rows.votes is None else soft_labels(self.config, rows, drop)
        gender = None if rows.gender is None else one_hot(rows.gender, self.genders)
        classes = one_hot(rows.classes, self.classes)

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values.astype(np.float32)).to(self.device)

        def at(positions: np.ndarray) -> Targets:
            further = (
                None if values is None else tensor(values[positions])
                for values in (soft, rows.attributes, gender)
            )
            return Targets(tensor(classes[positions]), *further)

        return at


def dev_scores(
    rows: Labelled, outputs: Mapping[str, np.ndarray], further: Sequence[str] = ()
) -> dict[str, float]:
    """Return dev_macro_f1, dev_uar and dev_accuracy of logits, dev_ccc (a mean) of attributes.

    `further` are metrics of logits that are computed too.
    """
    scores = {}
    if "logits" in outputs:
        logits = outputs["logits"]
        matrix = confusion(rows.classes, logits.argmax(axis=1), logits.shape[1])
        scores = {
            f"dev_{name}": float(metric(matrix)) for name, metric in reported(further).items()
        }
    if "attributes" in outputs:
        assert rows.attributes is not None
        scores["dev_ccc"] = float(ccc(rows.attributes, outputs["attributes"]).mean())
    return scores


def chosen_score(config: HeadConfig, row: Mapping[str, float]) -> float | None:
    """Return the score whose maximum is the best epoch; None without a dev set."""
    score = row.get(f"dev_{config.chosen_by}")
    return score if score is None or config.chosen_by != "loss" else -score


def scored_rows(config: HeadConfig, dev: Labelled) -> np.ndarray:
    """Return the positions of the dev rows that can be scored."""
    scorable = dev.classes >= 0 if "logits" in config.gives else np.zeros(len(dev), dtype=bool)
    if dev.attributes is not None:
        scorable = scorable | ~np.isnan(dev.attributes).all(axis=1)
    return np.flatnonzero(scorable)
