"""Transcripts of other programs are read as they are, and what is wrong in a file is named."""

import json

import pytest

from ser.cache.transcripts import Transcript, Word
from ser.corpus.errors import UserError
from ser.extract import transcript_files
from ser.extract.transcript_files import read_transcripts


def read(path, content, utterances=("a", "b"), language="und"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_transcripts(path, utterances, language)


def test_a_table_has_an_utterance_in_each_row(tmp_path):
    content = 'utterance,text,language\na,"Yes, it is.",de\nb,"",\nc,no,\n'
    result = read(tmp_path / "words.csv", content, ("a", "b", "d"), "en")
    assert result.transcripts == {
        "a": Transcript("Yes, it is.", 0.0, 0.0, "de"),
        "b": Transcript("", 0.0, 0.0, "en"),
    }
    assert (result.unknown, result.unusable) == (["c"], {})


def test_an_empty_cell_is_no_transcript(tmp_path):
    assert read(tmp_path / "words.tsv", "utterance\ttranscript\na\t\nb\tyes\n").transcripts == {
        "b": Transcript("yes", 0.0, 0.0, "und")
    }


def test_the_words_of_a_ctm_are_joined_in_the_order_of_their_times(tmp_path):
    lines = [";; a comment", "a 1 0.50 0.25 door 0.5", "a 1 0.00 0.50 the 0.125", "b A 1 2 yes NA"]
    result = read(tmp_path / "words.ctm", "\n".join([*lines, "c 1 0 1 no", ""]))
    a, b = result.transcripts["a"], result.transcripts["b"]
    assert (a.text, list(a.words)) == ("the door", [Word("the", 0, 0.5), Word("door", 0.5, 0.75)])
    assert a.avg_logprob == pytest.approx(-1.3862944)  # ln 1/4: the geometric mean of 1/2 and 1/8
    assert (b.text, b.avg_logprob, b.words[0].end) == ("yes", 0.0, 3.0)
    assert result.unknown == ["c"]


def test_whisperx_has_a_file_for_each_utterance(tmp_path):
    words = [{"word": "It's", "start": 0.1, "end": 0.4, "score": 0.9}, {"word": "2"}]
    segments = [
        {"text": " It's 2.", "words": words, "avg_logprob": -0.5},
        {"text": " Yes", "avg_logprob": -0.25},
    ]
    (tmp_path / "c.json").write_text("not opened, as nobody wants it")
    (tmp_path / "b.json").write_text('{"segments": 5}')
    (tmp_path / "d.json").write_text(
        '{"segments": [{"words": [{"word": "a", "start": NaN, "end": 1}]}]}'
    )
    (tmp_path / "a.json").write_text(json.dumps({"segments": segments, "language": "en"}))
    result = read_transcripts(tmp_path, ("a", "b", "d"), "und")
    expected = Transcript("It's 2. Yes", -0.375, 0.0, "en", [Word("It's", 0.1, 0.4)])
    assert result.transcripts == {"a": expected}
    assert result.unknown == ["c"]
    assert "b.json: 'segments' is not valid: it must be a list" in result.unusable["b"]
    assert "d.json: 'segments.0.words.0.start' is not valid: it must be" in result.unusable["d"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.csv", "id,text\na,yes\n", "w.csv: there is no column 'utterance'; name the columns"),
        ("w.csv", "utterance,words\na,yes\n", "w.csv: there is no column 'transcript'"),
        ("w.csv", "utterance,text\na,yes\na,no\n", "the utterance 'a' appears twice; keep one row"),
        ("w.csv", "utterance,text\na,yes\n,no\n", "row 2 has no utterance; give its id"),
        ("w.ctm", "a 1 0 1 yes\na 1 0\n", "w.ctm: line 2: it has 3 fields; give utterance"),
        ("w.ctm", "a 1 -1 1 yes", "line 1: its start is '-1'; give a number from 0 to 1e+06"),
        ("w.ctm", "a 1 nan 1 yes", "line 1: its start is 'nan'"),
        ("w.csv", b"utterance,text\na,\xe9\n", "line 2 is not UTF-8; save the table as UTF-8 (Exc"),
        ("w.csv", "utterance,text\na,\0\n", "a byte order mark; save the table as UTF-8."),
        ("w.csv", "", "w.csv: this table is empty"),
        ("w.ctm", ";; a comment\n", "w.ctm: it has no words; give a csv, tsv, parquet or ctm file"),
        ("w.srt", "1\n", ".srt files; give a csv, tsv, parquet or ctm file, or a folder of Whisp"),
        ("w.ctm", "a 1 0 1 yes 1.5", "line 1: its confidence is '1.5'; give a number from 0 to 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, name, content, message):
    with pytest.raises(UserError) as error:
        read(tmp_path / name, content)
    assert message in str(error.value)


def test_a_folder_without_transcripts_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"this folder has no \.json files; give a csv"):
        read_transcripts(tmp_path, ("a",), "und")


def test_sizes_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(transcript_files, "LONGEST", 3)
    result = read(tmp_path / "w.csv", "utterance,text\na,long\nb,yes\n")
    assert list(result.transcripts) == ["b"]
    assert result.unusable == {"a": "its transcript has more than 3 characters"}
    monkeypatch.setattr(transcript_files, "LARGEST", 10)
    with pytest.raises(UserError, match="the limit for transcripts"):
        read(tmp_path / "w.csv", "utterance,text\na,long\n")
