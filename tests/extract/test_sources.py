from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus.manifest import Manifest
from ser.extract.sources import AudioSources, TextSources, hash64, plan_batches
from tests.extract.factories import write_corpus

corpora = st.dictionaries(
    st.text(min_size=1, max_size=6),
    st.tuples(st.integers(0, 400_000), st.integers(0, 3)),
    max_size=40,
)


@settings(deadline=None)
@given(corpora, st.floats(1, 5_000))
def test_plan(corpus: dict[str, tuple[int, int]], budget: float) -> None:
    sizes = {u: size for u, (size, _) in corpus.items()}
    keys = {u: key for u, (_, key) in corpus.items()}
    costs = {u: size / 320 for u, size in sizes.items()}
    batches = plan_batches(sizes, keys, costs, budget)
    assert sorted(u for batch in batches for u in batch) == sorted(corpus)
    for batch in batches:
        assert len({keys[u] for u in batch}) == 1
        assert len(batch) == 1 or sum(costs[u] for u in batch) <= budget * (1 + 1e-9)
        assert [sizes[u] for u in batch] == sorted(sizes[u] for u in batch)
    backwards = dict(reversed(sizes.items()))
    assert plan_batches(backwards, keys, costs, budget) == batches


def test_plan_fills_its_batches() -> None:
    sizes = dict.fromkeys("abcde", 1)
    costs = dict.fromkeys("abcde", 1.0)
    keys = dict.fromkeys("abcde")
    assert plan_batches(sizes, keys, costs, 2.0) == [["a", "b"], ["c", "d"], ["e"]]


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
