import os
from pathlib import Path

import polars as pl
import pytest

from ser.corpus.check import require_speaker_disjoint
from ser.corpus.importers.registry import import_corpus

needs_shared = pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")


def test_everything_is_read_from_the_name(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    for name in ("03a01Wa", "14b10Lb", "16a05Ac", "08b01Ed"):
        (tmp_path / "wav" / f"{name}.wav").touch()
    manifest = import_corpus("emodb", tmp_path)
    assert manifest.classes == ("angry", "boredom", "disgust", "fear")
    columns = ["utterance", "path", "split", "speaker", "gender", "emotion"]
    assert manifest.frame.select(columns).rows() == [
        ("03a01Wa", "wav/03a01Wa.wav", "train", "emodb-03", "male", "angry"),
        ("08b01Ed", "wav/08b01Ed.wav", "train", "emodb-08", "female", "disgust"),
        ("14b10Lb", "wav/14b10Lb.wav", "dev", "emodb-14", "female", "boredom"),
        ("16a05Ac", "wav/16a05Ac.wav", "test", "emodb-16", "female", "fear"),
    ]
    assert manifest.frame["transcript"][0] == "Der Lappen liegt auf dem Eisschrank."
    assert manifest.frame["transcript"].null_count() == 0


@needs_shared
def test_the_four_real_classes_are_in_every_split() -> None:
    manifest = import_corpus("emodb", Path(os.environ["SER_SHARED"]) / "corpora" / "emodb4")
    assert len(manifest) == 339
    assert manifest.classes == ("angry", "happy", "sad", "neutral")
    require_speaker_disjoint(manifest)
    counts = dict(manifest.frame["emotion"].value_counts().rows())
    assert counts == {"angry": 127, "happy": 71, "sad": 62, "neutral": 79}
    cells = manifest.frame.group_by("split", "emotion").len()
    assert cells.height == 12
    speakers = manifest.frame.group_by("split").agg(pl.col("speaker", "gender").n_unique())
    assert sorted(speakers.rows()) == [("dev", 2, 2), ("test", 2, 2), ("train", 6, 2)]
    assert manifest.frame["transcript"].null_count() == 0
