"""Ten-line makers of a corpus with features that say the class, and of heads for it."""

import zlib
from functools import cache

import numpy as np
import polars as pl
import torch

from ser.cache.features import FeatureCache
from ser.corpus.manifest import Manifest
from ser.heads.config import parse_head
from ser.heads.job import HeadsJob
from ser.heads.run import train_heads
from ser.heads.training.cached import head_trainer
from ser.heads.training.reading import Reading
from ser.heads.training.targets import count_genders, labelled
from ser.heads.training.task import Task

CLASSES = ("angry", "sad", "neutral")


@cache
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
    small = {"head": "mean_mlp", "hidden": 8, "epochs": 3, "lr": 1e-2, "batch": 8}
    parsed = {name: unbounded(small | config) for name, config in configs.items()}
    return HeadsJob(root / "run", parsed, manifest, features, views or {})


def unbounded(entry):
    """Return the config of a head; its rate may be one that no file may ask for."""
    lr = entry["lr"]
    return parse_head(entry | {"lr": min(lr, 1.0)}).model_copy(update={"lr": lr})


def make_trainer(root, manifest=None, **options):
    manifest = manifest or make_manifest()
    caches = {n: make_feature(root, n, manifest, seed=i) for i, n in enumerate("ab")}
    views = {v: make_view(root, f"a+{v}", manifest) for v in options.get("views", ())}
    entry = {"features": ["a", "b"], "head": "mean_mlp", "hidden": 8}
    entry |= {"epochs": 6, "lr": 1e-2, "batch": 8}
    config = unbounded(entry | options)
    rows = {s: labelled(config, manifest, manifest.utterances(s)) for s in ("train", "dev")}
    everyone = manifest.utterances()
    speakers = dict(zip(everyone, manifest.column("speaker", everyone), strict=True))
    reading = Reading.of(config, caches, speakers, {"a": views})
    genders = count_genders(config, manifest)
    return head_trainer(Task.of(config, manifest.classes, **rows, genders=genders), reading)


def weights_by_rule(shapes):
    """Make the weights that the golden tensors were computed with (see shared/README.md)."""
    state = {}
    for name, shape in shapes.items():
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
        values = rng.standard_normal(shape).astype(np.float32)
        scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        state[name] = torch.from_numpy((values * scale).astype(np.float32))
    return state


def published_weights(record):
    """Make the weights of a released module whose outputs a JSON file has.

    Its norms have 1 added and its attention is four times as strong: else it hardly shows.
    """
    state = weights_by_rule(record["state_dict"])
    for name in state:
        if name.endswith(tuple(record["plus_one"])):
            state[name] = state[name] + 1
        if name.endswith(tuple(record["times_four"])):
            state[name] = state[name] * 4
    return state


def as_published(module):
    """Name our weights as the published code does."""
    names = {"head": "", "outputs.logits": "classifier", "norm": "layer_norm"}
    state = {}
    for key, value in module.state_dict().items():
        first, rest = key.split(".", 1)
        if first == "modalities":
            number, part, last = rest.split(".", 2)
            part = "attn" if part == "pooling" else part
            state[f"{('speech', 'text')[int(number)]}_{part}.{last}"] = value
        else:
            prefix = "outputs.logits" if first == "outputs" else first
            state[names[prefix] + key.removeprefix(prefix)] = value
    return state


def names_done(job, names, **options):
    """Train heads; return the name of each and what was done."""
    return [(r.name, r.done) for r in train_heads(job, names, **options)]


def train_three(root):
    """Train three heads in a folder, as the test does that kills it."""
    heads = {f"h{i}": {"features": ["a", "b"], "seed": i, "epochs": 5} for i in range(3)}
    return names_done(make_job(root, **heads), list(heads))
