"""Solve a linear probe: choose its layers and its penalty by speaker-disjoint folds, then fit it.

1. Read the frames once and pool them, each layer separately.
2. For each feature with all its layers, take the layer whose statistics alone score best out of
   fold.
3. Take the penalty that scores best out of fold, on the chosen layers of all features together.
4. Fit on all training rows.

Classes are scored by macro-F1 and attributes by mean CCC; a score counts with those of its two
neighbours in the grid. Where a corpus has more than `MOST` clips, steps 1 to 3 use a random part,
and all are read once more for step 4. Without two speakers there are no folds: the middle layer and
a fixed penalty are taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ser.corpus.errors import UserError
from ser.corpus.folds import speaker_folds
from ser.heads.architectures.linear_probe import LinearProbe
from ser.heads.config import HeadConfig
from ser.heads.inputs import FeatureInput, Prepared
from ser.heads.registry import LOSSES
from ser.heads.training.linear import Standardised, logistic, predict, ridge
from ser.heads.training.objective import inverse_shares
from ser.heads.training.targets import Labelled, one_hot, soft_labels
from ser.score.attributes import ccc
from ser.score.metrics import confusion, macro_f1

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)  # C of the classes
USUAL_STRENGTH = 1e-2
ALPHAS = (1e5, 3e4, 1e4, 3e3, 1e3, 3e2, 1e2, 3e1, 1e1)  # alpha of the attributes
USUAL_ALPHA = 1e3
FOLDS, FOLD_SEED = 5, 7
MOST = 4000  # clips that choices are made on

Pooled = Mapping[str, np.ndarray]  # float32 `(clips, layers, width)`; one layer where it is summed
Read = Callable[[Sequence[str]], Iterator[tuple[list[int], Mapping[str, tuple[Tensor, Tensor]]]]]
Candidate = dict[str, object]  # feature, layer, C or alpha, score: a row of candidates.csv


def solve(
    module: Prepared, config: HeadConfig, classes: int, train: Labelled, read: Read
) -> list[Candidate]:
    """Fit a module whose head is a linear probe; return the candidates that were compared.

    Args:
        module: the head and its inputs; its weights are replaced.
        config: the head's config.
        classes: the number of classes.
        train: the labelled rows to learn from.
        read: yields the positions and the features of utterances, batch by batch.
    """
    probe = module.head
    assert isinstance(probe, LinearProbe)
    tasks = _tasks(config, classes, train)
    some = np.arange(len(train))
    if len(train) > MOST:
        some = np.sort(np.random.default_rng(config.seed).permutation(len(train))[:MOST])
    part = train.take(some)
    pooled = pool(module, part.utterances, read)
    folds = _folds(part)
    layers, candidates = _choose_layers(tasks[0].take(some), pooled, folds)
    chosen = side_by_side(pooled, layers)
    for task in tasks:
        candidates += _choose_best(task, task.take(some), " ".join(pooled), chosen, folds)
    for name, use in _inputs(module).items():
        if use.layer_weights is not None:
            use.choose(layers[name])
    if len(train) > MOST:
        pooled = pool(module, train.utterances, read, layers)
        chosen = side_by_side(pooled, dict.fromkeys(layers, 0))
    _fit(probe, tasks, chosen)
    return candidates


def _fit(probe: LinearProbe, tasks: Sequence["_Task"], values: np.ndarray) -> None:
    """Set the weights of a probe; outputs that no task learns are 0."""
    standard = Standardised.of(values)
    with torch.no_grad():
        for parameter in probe.outputs.parameters():
            nn.init.zeros_(parameter)
        probe.standard.get_buffer("mean").copy_(torch.from_numpy(standard.mean))
        probe.standard.get_buffer("deviation").copy_(torch.from_numpy(standard.deviation))
        for task in tasks:
            model, first = task.fit(standard.rows, task.best), 0
            for name, width in task.outputs.items():
                part, linear = model[first : first + width], probe.outputs[name]
                weight = torch.from_numpy(part[:, :-1] @ standard.axes.T)
                linear.get_parameter("weight").copy_(weight)
                linear.get_parameter("bias").copy_(torch.from_numpy(part[:, -1]))
                first += width


def pool(
    module: Prepared, utterances: Sequence[str], read: Read, layers: Mapping[str, int] | None = None
) -> Pooled:
    """Return the statistics of utterances by feature; with `layers` those of one layer alone."""
    probe = module.head
    assert isinstance(probe, LinearProbe)
    pooled: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        for positions, features in read(utterances):
            for name, use in _inputs(module).items():
                frames, mask = features[name]
                frames = use.standardised(frames)
                if use.layer_weights is None:
                    frames = frames.unsqueeze(2)
                elif layers is not None:
                    frames = frames[:, :, [layers[name]]]
                statistics = probe.pool(frames, mask).float().cpu().numpy()
                if name not in pooled:
                    pooled[name] = np.empty((len(utterances), *statistics.shape[1:]), np.float32)
                pooled[name][positions] = statistics
    return pooled


def _inputs(module: Prepared) -> dict[str, FeatureInput]:
    """Return the input of each feature."""
    inputs = zip(module.names, module.inputs, strict=True)
    return {name: use for name, use in inputs if isinstance(use, FeatureInput)}


def side_by_side(pooled: Pooled, layers: Mapping[str, int]) -> np.ndarray:
    """Return the statistics `(clips, width)` of one layer of each feature, in their order."""
    return np.concatenate([values[:, layers[name]] for name, values in pooled.items()], axis=1)


def _folds(train: Labelled) -> np.ndarray | None:
    """Return the fold of each row; None where there cannot be two."""
    speakers = train.speakers or [None] * len(train)  # each clip may be of another speaker
    count = min(FOLDS, len({speaker or i for i, speaker in enumerate(speakers)}))
    try:
        return speaker_folds(train.classes, speakers, count, FOLD_SEED)
    except UserError:  # too few speakers or clips
        return None


def _choose_layers(
    task: "_Task", pooled: Pooled, folds: np.ndarray | None
) -> tuple[dict[str, int], list[Candidate]]:
    """Return the layer of each feature that scores best alone, and all that were compared."""
    layers = {name: values.shape[1] // 2 for name, values in pooled.items()}
    candidates: list[Candidate] = []
    for name, values in pooled.items():
        if values.shape[1] == 1 or folds is None:
            continue
        scores = []
        for layer in range(values.shape[1]):
            by_value = _scores(task, values[:, layer], folds)
            scores.append(_smooth(by_value).max())
            candidates += _rows(task, name, layer, by_value)
        layers[name] = int(np.argmax(scores))
    return layers, candidates


def _choose_best(
    task: "_Task", some: "_Task", feature: str, values: np.ndarray, folds: np.ndarray | None
) -> list[Candidate]:
    """Set the best C or alpha of a task: that which scores best on some of its rows."""
    if folds is None:
        return []
    scores = _scores(some, values, folds)
    smoothed = _smooth(scores)
    equal = np.flatnonzero(smoothed > smoothed.max() - 1e-9)
    task.best = task.grid[int(equal[len(equal) // 2])]
    return _rows(task, feature, None, scores)


def _rows(task: "_Task", feature: str, layer: int | None, scores: np.ndarray) -> list[Candidate]:
    return [
        {"feature": feature, "layer": layer, task.parameter: value, task.metric: float(score)}
        for value, score in zip(task.grid, scores, strict=True)
    ]


def _scores(task: "_Task", values: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the score of each value of the grid, of the predictions of all folds together."""
    rows = Standardised.of(values).rows
    predicted = [np.zeros_like(task.targets) for _ in task.grid]
    for fold in range(folds.max() + 1):
        train, held_out = np.flatnonzero(folds != fold), folds == fold
        models = task.take(train).fit_grid(rows[train])
        for scores, model in zip(predicted, models, strict=True):
            scores[held_out] = predict(model, rows[held_out])
    return np.array([np.nan_to_num(task.score(scores)) for scores in predicted])


def _smooth(scores: np.ndarray) -> np.ndarray:
    """Return the mean of each score and its neighbours: a single one may be luck."""
    padded = np.pad(scores, 1, mode="edge")
    smoothed: np.ndarray = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return smoothed


@dataclass
class _Classes:
    """Classes or votes, learned by logistic regression; `weights` `(n,)` balance the classes."""

    targets: np.ndarray
    weights: np.ndarray
    labels: np.ndarray
    outputs: Mapping[str, int]
    best: float = USUAL_STRENGTH
    parameter: ClassVar[str] = "C"
    grid: ClassVar[tuple[float, ...]] = STRENGTHS
    metric: ClassVar[str] = "macro_f1"

    def take(self, at: np.ndarray) -> "_Classes":
        return replace(
            self, targets=self.targets[at], weights=self.weights[at], labels=self.labels[at]
        )

    def fit(self, rows: np.ndarray, strength: float) -> np.ndarray:
        return logistic(rows, self.targets, self.weights, strength)

    def fit_grid(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        model = None
        for value in self.grid:  # each begins with the weights of the one before
            model = logistic(rows, self.targets, self.weights, value, model, rough=True)
            yield model

    def score(self, predicted: np.ndarray) -> float:
        classes = self.outputs["logits"]
        chosen = predicted[:, :classes].argmax(axis=1)
        return float(macro_f1(confusion(self.labels, chosen, classes)))


@dataclass
class _Ratings:
    """Attributes, learned by ridge regression; NaN where unknown."""

    targets: np.ndarray
    best: float = USUAL_ALPHA
    parameter: ClassVar[str] = "alpha"
    grid: ClassVar[tuple[float, ...]] = ALPHAS
    metric: ClassVar[str] = "ccc"

    @property
    def outputs(self) -> Mapping[str, int]:
        return {"attributes": self.targets.shape[1]}

    def take(self, at: np.ndarray) -> "_Ratings":
        return replace(self, targets=self.targets[at])

    def fit(self, rows: np.ndarray, alpha: float) -> np.ndarray:
        return ridge(rows, self.targets, alpha)

    def fit_grid(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        return (self.fit(rows, alpha) for alpha in self.grid)

    def score(self, predicted: np.ndarray) -> float:
        return float(ccc(self.targets, predicted.clip(1, 7)).mean())


_Task = _Classes | _Ratings


def _tasks(config: HeadConfig, classes: int, train: Labelled) -> list[_Task]:
    """Return what a probe learns, classes first: the layers are chosen by the first."""
    tasks: list[_Task] = []
    if "logits" in config.gives:
        voted = train.votes is not None
        targets = soft_labels(config, train) if voted else one_hot(train.classes, classes)
        targets = targets.astype(np.float64)
        uses = [use for use in config.loss if LOSSES.about(use.name).output == "logits"]
        power = getattr(uses[0], "class_weight_power", 1.0)
        by_class = inverse_shares(targets.sum(axis=0)).numpy().astype(np.float64) ** power
        outputs = {"logits": classes}
        outputs |= {"other": 1} if targets.shape[1] > classes else {}
        weights = (targets * by_class).sum(axis=1)
        tasks.append(_Classes(targets, weights, train.classes, outputs))
    if "attributes" in config.gives:
        assert train.attributes is not None
        tasks.append(_Ratings(train.attributes.astype(np.float64)))
    return tasks
