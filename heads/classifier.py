"""A head as scikit-learn has its estimators: `fit`, `predict`, `predict_proba`, in a notebook.

    model = HeadClassifier("cross_modal_gru", features=["whisper", "roberta"], epochs=20, lr=1e-3)
    model.fit("data/cache", "data/mine.parquet")
    model.predict_proba(["clip-1", "clip-2"])

What it takes are the keys of one entry under `heads:` in pipeline.yaml. It writes nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache.features import FeatureCache
from cache.upkeep import every_folder
from corpus.check import require_speaker_disjoint
from corpus.errors import UserError
from corpus.manifest import Manifest
from heads.config import HeadConfig, parse_head
from heads.job import by_split, usable_utterances
from heads.training.reading import Reading
from heads.training.targets import count_genders, labelled
from heads.training.trainer import AfterEpoch, Trainer
from score.heads import softmax

Caches = str | Path | Mapping[str, FeatureCache]


class HeadClassifier:
    """Train a head on the features of a cache and ask it about utterances by id.

    `head` names the architecture, `features` what it reads (names, or mappings with `stride`,
    `layer`, `normalize`); further keywords are the other keys of a head (`epochs`, `lr`, `loss`,
    `hidden`, …). After `fit`: `classes_`, `history_` (one mapping an epoch), `best_epoch_`,
    `score_` (of dev, None without a dev split) and `module_`, the PyTorch module.
    """

    def __init__(
        self,
        head: str = "cross_modal_gru",
        features: Sequence[str | Mapping[str, Any]] = (),
        **options: Any,
    ) -> None:
        self.head, self.features, self.options = head, features, options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what it was made with, as `sklearn.base.clone` wants it."""
        return {"head": self.head, "features": self.features, **self.options}

    def set_params(self, **params: Any) -> "HeadClassifier":
        """Change what it is made with; it must be fitted anew."""
        self.head = params.pop("head", self.head)
        self.features = params.pop("features", self.features)
        self.options = self.options | params
        return self

    @property
    def config(self) -> HeadConfig:
        """Return the head's config; raises `UserError` or pydantic's error for a wrong key."""
        return parse_head({"head": self.head, "features": list(self.features), **self.options})

    def fit(
        self,
        cache: Caches,
        manifest: Manifest | str | Path,
        device: str = "cpu",
        after_epoch: AfterEpoch = lambda row: None,
    ) -> "HeadClassifier":
        """Train on the train split, keep the epoch that is best on dev.

        `cache` is a cache folder or URL, or features by name. Raises `UserError` for a feature or
        an utterance that is not cached, a speaker in two splits, and what `Trainer` raises.
        """
        config = self.config
        if config.views:
            raise UserError("HeadClassifier: it reads clean features only; leave out `views`.")
        manifest = manifest if isinstance(manifest, Manifest) else Manifest.read(manifest)
        require_speaker_disjoint(manifest)
        caches = open_caches(cache, config.feature_names)
        usable = usable_utterances(manifest, caches.values())
        splits = by_split(manifest, usable)
        train, dev = (labelled(config, manifest, splits.get(s, [])) for s in ("train", "dev"))
        speakers = dict(zip(usable, manifest.column("speaker", usable), strict=True))
        self._trainer = Trainer(
            config,
            Reading.of(config, caches, speakers),
            manifest.classes,
            train=train,
            dev=dev,
            genders=count_genders(config, manifest),
            device=device,
        )
        trained = self._trainer.fit(after_epoch)
        self.classes_ = np.array(manifest.classes)
        self.module_, self.history_ = trained.module, trained.history
        self.best_epoch_, self.score_ = trained.best_epoch, trained.best_score
        return self

    def outputs(self, utterances: Sequence[str]) -> dict[str, np.ndarray]:
        """Return every output of the head, float32 `(utterances, width)`: logits, attributes, …."""
        if not hasattr(self, "module_"):
            raise UserError("HeadClassifier: it is not fitted yet; call `fit` first.")
        return self._trainer.predict(utterances)

    def predict_proba(self, utterances: Sequence[str]) -> np.ndarray:
        """Return the probability of each class, float64 `(utterances, classes)`."""
        return softmax(self.outputs(utterances)["logits"])

    def predict(self, utterances: Sequence[str]) -> np.ndarray:
        """Return the name of the likeliest class of each utterance."""
        at = self.outputs(utterances)["logits"].argmax(axis=1)
        likeliest: np.ndarray = self.classes_[at]
        return likeliest


def open_caches(cache: Caches, names: Sequence[str]) -> dict[str, FeatureCache]:
    """Open features by name; raises `UserError` where a name is none or more than one."""
    if isinstance(cache, Mapping):
        absent = [name for name in names if name not in cache]
        if absent:
            raise UserError(f"cache: the feature '{absent[0]}' is not among those given; add it.")
        return {name: cache[name] for name in names}
    return {name: _only_folder(cache, name) for name in names}


def _only_folder(cache: str | Path, name: str) -> FeatureCache:
    found = [f for f in every_folder(cache, name) if isinstance(f, FeatureCache)]
    if len(found) != 1:
        there = (
            f"{len(found)} versions of the feature '{name}'" if found else f"no feature '{name}'"
        )
        raise UserError(
            f"{cache}: there is {there}; extract it, or give `cache` as a mapping of names to "
            "`FeatureCache(folder)`."
        )
    return found[0]
