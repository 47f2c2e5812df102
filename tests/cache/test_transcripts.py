"""Transcripts: the same folder, words instead of frames."""

import polars as pl
import pytest

from ser.cache.index_file import missing
from ser.cache.transcripts import Transcript, TranscriptCache
from tests.cache.factories import WORDS_SPEC, make_transcripts


def test_words_come_back_by_id(tmp_path):
    cache = make_transcripts(tmp_path, {"a": "hello", "b": "", "c": "naïve"})
    assert cache.texts(["c", "nobody", "b"]) == ["naïve", None, ""]
    row = cache.index().row(by_predicate=pl.col("utterance") == "a", named=True)
    assert (row["avg_logprob"], row["no_speech_prob"], row["language"]) == (-0.5, 0.25, "en")
    assert missing(cache.index(), {"a": 1, "d": 1}, lambda u: 0) == {"d"}


def test_the_latest_transcript_counts(tmp_path):
    make_transcripts(tmp_path, {"a": "one"})
    assert make_transcripts(tmp_path, {"a": "two"}).texts(["a"]) == ["two"]


def test_an_error_keeps_what_was_appended(tmp_path):
    cache = TranscriptCache.create(tmp_path, "asr", WORDS_SPEC, {})
    with pytest.raises(RuntimeError), cache.writer() as writer:
        writer.append("a", Transcript("kept", 0, 0, "en"), 1, 2)
        raise RuntimeError
    assert cache.texts(["a"]) == ["kept"]
