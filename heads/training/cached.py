"""Training of a head on cached features."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ser.cache.reader import Batch, BatchReader, Clip, Clips, bucket, padded_share
from ser.corpus.errors import UserError
from ser.corpus.registry import origin
from ser.heads.head import Head
from ser.heads.inputs import Prepared
from ser.heads.published import load_init
from ser.heads.training.checkpoint import Checkpoint
from ser.heads.training.reading import Reading, read_moments
from ser.heads.training.schedule import Epoch
from ser.heads.training.solving import solve
from ser.heads.training.step import MicroBatch
from ser.heads.training.targets import Labelled
from ser.heads.training.task import STEP, VIEW, Task, chosen_score
from ser.heads.training.trainer import AfterEpoch, Outputs, Steps, Trained, Trainer

EVAL_BATCH = 4  # times the training batch: no gradients are kept


class CachedFrames:
    """The frames of a head's clips, read from the cache.

    With `config.views`, which the columns of `reading` have, each clip is taken clean or from a
    view.
    """

    def __init__(self, task: Task, reading: Reading) -> None:
        self.task, self.reading = task, reading
        self.views = ("", *task.config.views)  # "" is clean

    @cached_property
    def lengths(self) -> np.ndarray:
        """Return the frames of each training clip in each view, int64 `(views, train)`."""
        names = self.task.train.utterances
        return np.stack([self.reading.lengths([Clip(u, v) for u in names]) for v in self.views])

    def steps(self, epoch: Epoch, first: int) -> Steps:
        """Return the steps of an epoch, to be run from the step `first` on."""
        drawn, rng = self.task.draw(epoch)
        views = self.draw_views(len(drawn), self.task.random(epoch, VIEW))
        names = self.task.train.utterances
        clips = [Clip(names[i], self.views[v]) for i, v in zip(drawn, views, strict=True)]
        lengths, size = self.lengths[views, drawn], epoch.stage.accumulate
        batches = bucket(range(len(clips)), lengths, epoch.stage.batch, rng)
        steps = [batches[i : i + size] for i in range(0, len(batches), size)]

        def remaining() -> Iterator[list[MicroBatch]]:
            number = first * size  # of the batch
            read = self.batches([[clips[i] for i in batch] for batch in batches[number:]])
            targets, device = self.task.train_targets(epoch), self.task.device
            for step in steps[first:]:
                micro_batches = []
                for batch in step:
                    # a batch is valid until the next: those that wait for others are copied
                    features = self.reading.features(next(read), device, copy=len(step) > 1)
                    seed = (self.task.config.seed, epoch.number, STEP, number)
                    micro_batches.append(MicroBatch(features, targets(drawn[batch]), seed))
                    number += 1
                yield micro_batches

        return Steps(len(steps), padded_share(batches, lengths), remaining())

    def draw_views(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """Return the number of each draw's view, 0 for clean, int64 `(draws,)`.

        `rng` is a stream of its own, so that the order of an epoch is what it is without views.
        """
        views = len(self.task.config.views)
        if not views:
            return np.zeros(draws, dtype=np.int64)
        view = 1 + rng.integers(views, size=draws)
        return np.where(rng.random(draws) < self.task.config.augmented, view, 0)

    def batches(self, plan: Sequence[Clips]) -> Iterator[Batch]:
        """Yield the batches of a plan, each valid until the next."""
        pin = self.task.device.type == "cuda"
        return BatchReader(self.reading.columns, pin=pin, check=True).batches(plan)

    def read(
        self, utterances: Sequence[str]
    ) -> Iterator[tuple[list[int], dict[str, tuple[Tensor, Tensor]]]]:
        """Yield the positions and the features of utterances, in batches of similar length."""
        batch, lengths = EVAL_BATCH * self.task.config.batch, self.reading.lengths(utterances)
        positions = bucket(range(len(utterances)), lengths, batch, None)
        read = self.batches([[utterances[i] for i in part] for part in positions])
        for part, frames in zip(positions, read, strict=True):
            yield part, self.reading.features(frames, self.task.device)

    def predict(self, module: nn.Module, utterances: Sequence[str]) -> dict[str, np.ndarray]:
        """Return every output of a module, float32 `(utterances, width)`."""
        out = {
            name: np.empty((len(utterances), width), dtype=np.float32)
            for name, width in self.task.outputs.items()
        }
        with torch.inference_mode():
            for positions, features in self.read(utterances):
                outputs = module(features)
                for name, values in out.items():
                    values[positions] = outputs[name].float().cpu().numpy()
        return out

    def scored(self, module: nn.Module, rows: Labelled) -> tuple[Labelled, Outputs]:
        """Return rows, and the outputs of a module for them."""
        return rows, self.predict(module, rows.utterances)


class SolvedTrainer(Trainer[CachedFrames]):
    """The trainer of a head that is solved: it has no epochs, and no checkpoint."""

    def fit(
        self,
        after_epoch: AfterEpoch = lambda row: None,
        checkpoint: Checkpoint = Checkpoint(None),  # noqa: B008
    ) -> Trained:
        """Solve the head; `after_epoch` gets one row, of its dev scores."""
        task = self.task
        assert isinstance(self.module, Prepared)
        candidates = solve(self.module, task.config, task.classes, task.train, self.data.read)
        row = {"epoch": 0} | self.dev_scores(task.config)
        after_epoch(row)
        return Trained(self.kept, [], -1, chosen_score(task.config, row), candidates)


def head_trainer(task: Task, reading: Reading) -> Trainer[CachedFrames]:
    """Return the trainer of one head; raises `UserError` for a head that cannot be built."""
    config = task.config
    torch.manual_seed(config.seed)
    module = _build(task, reading).to(task.device)
    reading = reading.drawn_to({name: module.moments_of(name) for name in reading.speakers})
    if config.init is not None:
        load_init(module, config.init)
    data = CachedFrames(task, reading)
    _calibrate(task, module, data)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
    )
    kind = SolvedTrainer if config.architecture.solved else Trainer[CachedFrames]
    return kind(task, module, data, optimizer)


def _build(task: Task, reading: Reading) -> Prepared:
    """Build a head behind its inputs; raises `UserError` for one without parameters."""
    config, columns = task.config, reading.columns
    moments = {
        use.name: read_moments(columns[use.name], task.train.utterances)
        for use in config.features
        if use.normalize != "none"
    }
    shapes = {name: column.item_shape for name, column in columns.items()}
    module = Prepared.build(config, shapes, task.outputs, moments)
    if not any(True for _ in module.parameters()):
        raise UserError(
            f"the head '{config.head}' ({origin(type(module.head))}) has no parameters to train; "
            "assign its layers to attributes of the module."
        )
    return module


def _calibrate(task: Task, module: Prepared, data: CachedFrames) -> None:
    """Fit the standardisation of a head's embedding on all training clips, clean."""
    standard = module.head.standard if isinstance(module.head, Head) else None
    if standard is None or task.config.init is not None:
        return
    batches: list[Tensor] = []
    watch = standard.register_forward_pre_hook(lambda _, args: batches.append(args[0].cpu()))
    data.predict(module.eval(), task.train.utterances)
    watch.remove()
    standard.fit(torch.cat(batches))
