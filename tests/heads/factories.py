"""Ten-line makers of a corpus with features that say the class, and of heads for it."""

import numpy as np
import polars as pl

from cache.features import FeatureCache
from corpus.manifest import Manifest
from heads.config import parse_head
from heads.run import HeadsJob

CLASSES = ("angry", "sad", "neutral")


def make_manifest(count=60, classes=CLASSES):
    rows = [
        {
            "utterance": f"u{i}",
            "path": f"u{i}.wav",
            "speaker": f"s{i % 10}",
            "split": ("train", "train", "train", "dev", "test")[i % 10 // 2],
            "emotion": classes[i % len(classes)],
        }
        for i in range(count)
    ]
    return Manifest(pl.DataFrame(rows), classes)


def make_feature(root, name, manifest, *, seed=0, skip=()):
    dim, signal = 6, 2.0
    rng = np.random.default_rng(seed)
    cache = FeatureCache.create(root, name, {"kind": name}, {"item_shape": [dim]})
    with cache.writer() as writer:
        labels = manifest.labels(manifest.utterances())
        for utterance, label in zip(manifest.utterances(), labels, strict=True):
            frames = rng.standard_normal((rng.integers(1, 12), dim)).astype(np.float32)
            frames[:, label % dim] += signal
            if utterance not in skip:
                writer.append(utterance, frames, 1, 2)
    return FeatureCache(cache.path)


def make_view(root, name, manifest, *, seed=5, skip=()):
    train = set(manifest.utterances("train"))
    others = [u for u in manifest.utterances() if u not in train]
    return make_feature(root, name, manifest, seed=seed, skip=(*others, *skip))


def make_job(root, manifest=None, views=None, **configs):
    manifest = manifest or make_manifest()
    features = {n: make_feature(root / "cache", n, manifest, seed=i) for i, n in enumerate("ab")}
    small = {"hidden": 8, "epochs": 3, "lr": 1e-2, "batch": 8}
    parsed = {name: parse_head(small | config) for name, config in configs.items()}
    return HeadsJob(root / "run", parsed, manifest, features, views or {})
