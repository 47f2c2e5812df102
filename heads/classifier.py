"""A head as an estimator of scikit-learn: `fit`, `predict`, `predict_proba`, `score`.

What is learned from are utterance ids; the frames are read from the feature cache:

    model = HeadClassifier("cross_modal_gru", ["whisper", "roberta"], cache="data/cache", lr=1e-3)
    cross_val_score(model, utterances, emotions, groups=speakers, cv=GroupKFold(5))

or a manifest, whose dev split then chooses the epoch: `model.fit("data/mine.parquet")`. The other
keyword arguments are the keys of one entry under `heads:` in pipeline.yaml. No file is written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError
from sklearn.utils.validation import check_is_fitted

from ser.cache.features import FeatureCache
from ser.corpus.check import require_speaker_disjoint
from ser.corpus.config import describe
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.heads.arguments import (
    Caches,
    Labels,
    Utterances,
    as_ids,
    as_labels,
    labelled_ids,
    open_caches,
)
from ser.heads.config import HeadConfig, parse_head, valid_keys
from ser.heads.job import by_split, usable_utterances
from ser.heads.scaling import scaled
from ser.heads.training.cached import head_trainer
from ser.heads.training.reading import Reading
from ser.heads.training.targets import Labelled, count_genders, labelled
from ser.heads.training.task import Task
from ser.heads.training.trainer import AfterEpoch
from ser.score.estimator import SectionClassifier
from ser.score.heads import softmax

NOT_FITTED = "HeadClassifier: it is not fitted yet; call `fit` first."


class HeadClassifier(SectionClassifier):
    """A classifier of utterances: one head, trained on cached features.

    Args:
        head: the architecture, as `ser heads list` names them.
        features: what it reads: names, or mappings with `name`, `stride`, `layer`, `normalize`.
        cache: where the features are: the folder or URL of a cache, a `FeatureCache`, or a mapping
            of feature names to them.
        device: cpu or cuda.
        **options: the other keys of a head (`epochs`, `lr`, `loss`, `hidden`, `seed`, …).

    After `fit`: `classes_`, `history_` (a mapping for each epoch), `best_epoch_`, `score_` (of dev;
    None without one), `config_`, and `module_`, the PyTorch module.

        >>> model = HeadClassifier("mean_mlp", ["voice"], cache="data/cache", epochs=5, lr=0.01)
        >>> model.fit(["0", "1", "2", "3"], ["angry", "sad", "angry", "sad"])
        HeadClassifier(cache='data/cache', epochs=5, features=['voice'],
                       head='mean_mlp', lr=0.01)
        >>> model.predict(["4", "5"]).tolist()
        ['angry', 'sad']
        >>> model.predict_proba(["4", "5"]).shape
        (2, 2)
        >>> model.score(["4", "5"], ["angry", "sad"])
        1.0
    """

    def __init__(
        self,
        head: str = "cross_modal_gru",
        features: Sequence[str | Mapping[str, Any]] = (),
        *,
        cache: Caches | None = None,
        device: str = "cpu",
        **options: Any,
    ) -> None:
        self.head, self.features, self.cache, self.device = head, features, cache, device
        self.options = options

    def known_options(self) -> list[str]:
        """List the keys of a head of this architecture."""
        return valid_keys({"head": self.head})

    def __sklearn_tags__(self) -> object:
        """Declare to scikit-learn that X is a flat array of ids."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = False, True
        tags.input_tags.string = True
        return tags

    def fit(
        self,
        X: Utterances | Manifest | str | Path,
        y: Labels | None = None,
        *,
        eval_set: tuple[Utterances, Labels] | None = None,
        after_epoch: AfterEpoch = lambda row: None,
    ) -> Self:
        """Train on utterances and their labels, or on the train split of a manifest.

        Args:
            X: utterance ids, or a manifest or its path.
            y: a label for each id; not given with a manifest.
            eval_set: ids and labels, as (X, y), that choose the epoch whose weights are kept;
                without them it is the last. A manifest's dev split does this by itself.
            after_epoch: called with the row of `history_` after each epoch.

        Raises `UserError` for utterances that are not cached, for labels that do not fit, for a
        wrong option, and for classes and losses that do not fit.
        """
        config = self._config()
        caches = open_caches(self.cache, config.feature_names)
        speakers: dict[str, str | None] = {}
        genders = 0
        if isinstance(X, Manifest | str | Path):
            if y is not None or eval_set is not None:
                raise UserError(
                    "HeadClassifier: a manifest brings its own labels and dev split; leave out `y` "
                    "and `eval_set`."
                )
            manifest = X if isinstance(X, Manifest) else Manifest.read(X)
            train, dev, speakers = _manifest_rows(config, manifest, caches)
            classes, genders = np.array(manifest.classes), count_genders(config, manifest)
        elif y is None:
            raise UserError("HeadClassifier: `y` is missing; give a label for each utterance id.")
        else:
            classes, train, dev = _labelled_rows(config, X, y, eval_set)
            for cache in caches.values():
                cache.require([*train.utterances, *dev.utterances])
        reading = Reading.of(config, caches, speakers)
        config, names = scaled(config, len(train)), [str(name) for name in classes.tolist()]
        task = Task.of(config, names, train=train, dev=dev, genders=genders, device=self.device)
        trainer = head_trainer(task, reading)
        trained = trainer.fit(after_epoch)
        self.config_, self.classes_ = config, classes
        self.module_, self.history_ = trained.module.eval(), trained.history
        self.best_epoch_, self.score_ = trained.best_epoch, trained.best_score
        self._data = trainer.data
        return self

    def outputs(self, X: Utterances) -> dict[str, np.ndarray]:
        """Return every output of the head, float32 `(utterances, width)`: logits, attributes, …."""
        check_is_fitted(self, "module_", msg=NOT_FITTED)
        utterances = as_ids(X)
        self._data.reading.require(utterances)
        return self._data.predict(self.module_, utterances)

    def predict_proba(self, X: Utterances) -> np.ndarray:
        """Return the probability of each class, float64 `(utterances, classes)`."""
        return softmax(self._logits(X))

    def predict(self, X: Utterances) -> np.ndarray:
        """Return the most probable class of each utterance."""
        most_probable = self._logits(X).argmax(axis=1)
        predicted: np.ndarray = self.classes_[most_probable]
        return predicted

    def score(self, X: Utterances, y: Labels) -> float:
        """Return macro-F1, the score of `ser score` (that of other classifiers is accuracy)."""
        return super().score(X, as_labels(y))

    def _logits(self, utterances: Utterances) -> np.ndarray:
        outputs = self.outputs(utterances)
        if "logits" not in outputs:
            raise UserError(
                "HeadClassifier: this head learned attributes alone, so it has no classes; read "
                "them with `outputs(utterances)['attributes']`."
            )
        return outputs["logits"]

    def _config(self) -> HeadConfig:
        """Check the options; raises `UserError` for a wrong key or value."""
        entry = {"head": self.head, "features": list(self.features), **self.options}
        self.require_known_options()
        if not self.features:
            raise UserError(
                "HeadClassifier: `features` is empty; name the features, such as ['whisper']."
            )
        try:
            config = parse_head(entry)
        except ValidationError as error:
            raise UserError(f"HeadClassifier: {describe(error)}; correct it.") from error
        if config.views:
            raise UserError("HeadClassifier: it reads clean features only; leave out `views`.")
        if config.seeds > 1:
            raise UserError(
                "HeadClassifier: it trains with one seed; leave out `seeds`, and average several "
                "classifiers with scikit-learn's VotingClassifier."
            )
        return config


def _labelled_rows(
    config: HeadConfig, X: Utterances, y: Labels, eval_set: tuple[Utterances, Labels] | None
) -> tuple[np.ndarray, Labelled, Labelled]:
    """Return the classes, the rows to train on, and those of dev, which may be none."""
    if config.reads != {"classes"} or any(f.normalize == "speaker" for f in config.features):
        raise UserError(
            "HeadClassifier: this head learns from votes, ratings, genders or speakers, which "
            "labels alone lack; fit it on a manifest."
        )
    utterances, labels = as_ids(X), as_labels(y)
    train = labelled_ids(utterances, labels, classes := np.unique(labels), "y")
    if len(classes) < 2:
        raise UserError(
            f"HeadClassifier: y has one class only ({classes[0].item()!r}); give "
            "utterances of two or more."
        )
    dev = train.take([])
    if eval_set is not None:
        dev = labelled_ids(as_ids(eval_set[0]), as_labels(eval_set[1]), classes, "eval_set")
    return classes, train, dev


def _manifest_rows(
    config: HeadConfig, manifest: Manifest, caches: Mapping[str, FeatureCache]
) -> tuple[Labelled, Labelled, dict[str, str | None]]:
    """Return the rows to train on, those of dev, and the speaker of each usable utterance."""
    require_speaker_disjoint(manifest)
    usable = usable_utterances(manifest, caches.values())
    splits = by_split(manifest, usable)
    if not splits.get("train"):
        raise UserError(
            f"{manifest.source}: no utterance of the split train has all features; set `split` "
            "to train in some rows and extract them."
        )
    train, dev = (labelled(config, manifest, splits.get(s, [])) for s in ("train", "dev"))
    if "classes" in config.reads and (train.classes < 0).all():
        raise UserError(
            f"{manifest.source}: no utterance of the split train has an emotion; fill in the "
            "column `emotion`."
        )
    return train, dev, dict(zip(usable, manifest.column("speaker", usable), strict=True))
