from pathlib import Path

import polars as pl
import pytest

from ser.corpus.manifest import Manifest
from ser.extract.sources import AudioSources, TextSources, hash64
from tests.extract.factories import write_corpus


def test_audio_sources(tmp_path: Path) -> None:
    sources = AudioSources(write_corpus(tmp_path, clips=2), tmp_path)
    assert set(sources.stat_hashes()) == {"u00", "u01"}
    assert sources.sizes() == {"u00": 4_800, "u01": 6_400}
    assert sources.load("u01").shape == (6_400,)
    assert sources.content_hash("u00") != sources.content_hash("u01")


def test_spans_are_measured_within_the_file(tmp_path: Path) -> None:
    frame = write_corpus(tmp_path, clips=2).frame.with_columns(
        start=pl.Series([0.1, 0.1]), end=pl.Series([0.2, 9.0])
    )
    sources = AudioSources(Manifest(frame), tmp_path)
    assert sources.sizes() == {"u00": 1_600, "u01": 4_800}
    assert [len(sources.load(u)) for u in ("u00", "u01")] == [1_600, 4_800]


def test_same_file_in_another_span_is_another_source(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, clips=1)
    cut = Manifest(manifest.frame.with_columns(end=pl.lit(0.2)))
    whole, part = (AudioSources(m, tmp_path) for m in (manifest, cut))
    assert whole.content_hash("u00") != part.content_hash("u00")
    assert whole.stat_hashes() != part.stat_hashes()


def test_text_sources() -> None:
    sources = TextSources(["a", "b", "c"], ["hello", None, ""], feature="transcripts")
    assert sources.sizes() == {"a": 5, "c": 0}
    assert sources.unusable == {"b": "no words in 'transcripts'"}
    assert sources.load("c") == ""
    assert sources.content_hash("a") == sources.stat_hashes()["a"]


@pytest.mark.parametrize("other", [("a", 1.0), ("a", None), ("b",), ("a", 1, None)])
def test_hashes_distinguish_values_and_types(other: tuple[object, ...]) -> None:
    assert hash64("a", 1) != hash64(*other)
    assert 0 <= hash64(*other) < 1 << 64
