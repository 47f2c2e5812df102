"""Ten-line makers of a corpus with features that say the class, and of heads for it."""

import numpy as np
import polars as pl

from cache.features import FeatureCache
from corpus.manifest import Manifest
from heads.config import parse_head
from heads.job import HeadsJob
from heads.training.reading import Reading
from heads.training.targets import count_genders, labelled
from heads.training.trainer import Trainer
from heads.training.views import join_views

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


def with_ratings(manifest, unsure=()):
    """Add votes that agree 4 to 1, attributes that follow the class, and a gender; some unsure."""
    rows, count = manifest.frame.to_dicts(), len(manifest.classes)
    for i, row in enumerate(rows):
        label = manifest.classes.index(row["emotion"])
        for c, name in enumerate(manifest.classes):
            row[f"votes.{name}"] = 4 * (c == label) + (c == (label + 1) % count)
        row |= {"votes.other": i % 2, "gender": ("f", "m")[int(row["speaker"][1:]) % 2]}
        row |= {"arousal": 2.0 + 2 * label, "valence": 6.0 - 2 * label, "dominance": 4.0}
        row["emotion"] = None if row["utterance"] in unsure else row["emotion"]
    return Manifest(pl.DataFrame(rows), manifest.classes)


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


def make_trainer(root, manifest=None, **options):
    manifest = manifest or make_manifest()
    caches = {n: make_feature(root, n, manifest, seed=i) for i, n in enumerate("ab")}
    views = {v: make_view(root, f"a+{v}", manifest) for v in options.get("views", ())}
    if views:
        caches = join_views(caches, {"a": views}, list(views), manifest.utterances("train"))
    entry = {"features": ["a", "b"], "hidden": 8, "epochs": 6, "lr": 1e-2, "batch": 8}
    config = parse_head(entry | options)
    rows = {s: labelled(config, manifest, manifest.utterances(s)) for s in ("train", "dev")}
    everyone = manifest.utterances()
    speakers = dict(zip(everyone, manifest.column("speaker", everyone), strict=True))
    reading = Reading.of(config, caches, speakers)
    return Trainer(
        config, reading, manifest.classes, **rows, genders=count_genders(config, manifest)
    )
