"""The made-up corpus has all that a head or a stack may ask for."""

import numpy as np
import polars as pl
import soundfile

from ser.corpus.check import require_speaker_disjoint
from ser.corpus.columns import FURTHER
from ser.corpus.config import MSP_CLASSES
from ser.corpus.manifest import Manifest
from ser.synthetic.corpus import RAREST, synthesize


def test_it_has_what_msp_podcast_has(tmp_path):
    made = synthesize(tmp_path, MSP_CLASSES)
    manifest = Manifest.read(tmp_path / "manifest.parquet", MSP_CLASSES)
    assert manifest.frame.equals(made.frame)
    train = manifest.frame.filter(pl.col("split") == "train")
    counts = train["emotion"].drop_nulls().value_counts()["count"]
    assert (counts.min(), counts.max()) == (RAREST, RAREST + 3)
    for split in ("train", "dev", "test"):
        rows = manifest.frame.filter(pl.col("split") == split)
        assert rows["emotion"].null_count() > 0
        assert set(rows["emotion"].drop_nulls()) == set(MSP_CLASSES)
        assert set(rows["gender"]) == {"female", "male"}
    require_speaker_disjoint(manifest)
    assert train["speaker"].n_unique() == 10
    assert (
        manifest.frame.select(pl.col("arousal", "valence", "dominance").is_between(1, 7))
        .to_numpy()
        .all()
    )
    votes = manifest.votes(manifest.utterances())
    assert (votes.sum(axis=1) == 5).all()
    labels = manifest.labels(manifest.utterances())
    mask = labels >= 0
    assert (votes[mask].argmax(axis=1) == labels[mask]).all()
    assert manifest.votes(manifest.utterances(), FURTHER).sum() > 0
    assert votes[:, -1].sum() > 0  # some of another emotion


def test_clips_are_short_and_audible(tmp_path):
    manifest = synthesize(tmp_path, ("a", "b"))
    for path in manifest.frame["path"]:
        wave, rate = soundfile.read(tmp_path / "audio" / path)
        assert rate == 16_000
        assert len(wave) % 1600 == 0 and 6_400 <= len(wave) <= 16_000
        assert 0.01 < np.abs(wave).max() < 1


def test_the_same_classes_and_seed_are_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        synthesize(tmp_path / folder, ("x", "y", "z"))
    names = sorted(p.name for p in (tmp_path / "a" / "audio").iterdir())
    for name in names:
        a, b = ((tmp_path / f / "audio" / name).read_bytes() for f in ("a", "b"))
        assert a == b
    synthesize(tmp_path / "c", ("x", "y", "z"), seed=8)
    a, c = ((tmp_path / f / "audio" / names[0]).read_bytes() for f in ("a", "c"))
    assert a != c
