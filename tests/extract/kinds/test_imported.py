"""Nothing extracts imported features; transcripts of a file fill the cache row by row."""

import polars as pl
import pytest

from ser.cache.transcripts import TranscriptCache
from ser.corpus.errors import Note, UserError
from ser.corpus.manifest import Manifest
from ser.extract.extractor import parse_options
from ser.extract.forecast import forecast
from ser.extract.job import Job, open_feature
from ser.extract.kinds.imported import Imported
from ser.extract.run import extract

UTTERANCES = ["a", "b", "c"]


def job(folder, *rows, **options):
    if rows:
        (folder / "w.csv").write_text("\n".join(["utterance,transcript", *rows]))
    entry = {"kind": "imported_transcripts", "file": str(folder / "w.csv"), **options}
    manifest = Manifest(pl.DataFrame({"utterance": UTTERANCES, "path": ["-"] * 3}))
    return Job("words", parse_options(entry), manifest, folder, folder / "cache")


def texts(work):
    cache = open_feature(work)
    assert isinstance(cache, TranscriptCache)
    return cache.texts(UTTERANCES)


def test_changed_rows_are_imported_again_and_missing_ones_listed(tmp_path):
    work = job(tmp_path, "a,yes", "b,no")
    assert forecast(work).utterances == 2
    report = extract(work, "cpu")
    assert (report.extracted, report.cached) == (2, 0)
    assert report.failed == {"c": f"{tmp_path}/w.csv: it has no transcript of this utterance"}
    report = extract(job(tmp_path, "a,yes", "b,maybe", "c,well"), "cpu")
    assert (report.extracted, report.cached, report.failed) == (2, 1, {})
    assert texts(work) == ["yes", "maybe", "well"]
    assert forecast(work).utterances == 0


def test_what_is_cached_needs_no_file(tmp_path):
    work = job(tmp_path, "a,yes", "b,no", "c,well")
    extract(work, "cpu")
    (tmp_path / "w.csv").rename(tmp_path / "moved.csv")
    with pytest.warns(Note, match=r"w\.csv does not exist; 3 cached transcripts can be used"):
        report = extract(work, "cpu")
    assert (report.cached, report.failed) == (3, {})
    moved = job(tmp_path, file=str(tmp_path / "moved.csv"))
    assert extract(moved, "cpu").cached == 3


def test_a_missing_file_is_one_message(tmp_path):
    with pytest.raises(UserError) as error:
        extract(job(tmp_path), "cpu")
    assert str(error.value) == (
        f"features.words: {tmp_path}/w.csv does not exist, and 3 utterances cannot be read from "
        "the cache; correct `file`."
    )


def test_cached_transcripts_that_left_the_file_are_counted(tmp_path):
    extract(job(tmp_path, "a,yes", "b,no", "c,well"), "cpu")
    with pytest.warns(
        Note, match=r"2 cached transcripts are no longer in .*w\.csv; what is"
    ) as notes:
        report = extract(job(tmp_path, "a,yes"), "cpu")
    assert (len(notes), report.cached, report.failed) == (1, 3, {})


def test_damaged_json_is_listed_though_a_transcript_is_cached(tmp_path):
    folder = tmp_path / "json"
    folder.mkdir()
    for utterance in UTTERANCES:
        (folder / f"{utterance}.json").write_text('{"segments": [{"text": "yes"}]}')
    work = job(tmp_path, file=str(folder))
    extract(work, "cpu")
    (folder / "b.json").write_text("{")
    report = extract(work, "cpu")
    assert (report.cached, list(report.failed)) == (2, ["b"])
    assert texts(work) == ["yes"] * 3


def test_utterances_that_the_manifest_lacks_are_skipped_and_named(tmp_path):
    message = "it has no transcript of this utterance, but one of 'x', which is not in the manifest"
    with pytest.raises(UserError, match=message):
        extract(job(tmp_path, "x,yes"), "cpu")
    report = extract(job(tmp_path, "x,yes", "b,no", "y,so"), "cpu")
    assert (report.extracted, report.failed["a"]) == (1, f"{tmp_path}/w.csv: {message}")


def test_times_of_words_are_kept_where_they_are_requested(tmp_path):
    (tmp_path / "w.ctm").write_text("a 1 0.5 0.5 yes\n")
    for word_times, words in (False, []), (True, [{"word": "yes", "start": 0.5, "end": 1.0}]):
        work = job(tmp_path, file=str(tmp_path / "w.ctm"), word_times=word_times, language="en")
        extract(work, "cpu")
        row = open_feature(work).index().row(0, named=True)
        assert (row["text"], row["language"], row["words"]) == ("yes", "en", words)


def test_nothing_extracts_an_imported_feature():
    imported = Imported(parse_options({"kind": "imported"}))
    with pytest.raises(ValueError, match="are added by `ser cache import`"):
        imported.extract([])
