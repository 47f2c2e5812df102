"""Turns of speakers: what files are read, what is refused, and the audio that they are cut from."""

import json
import os
import time
import unicodedata

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus.errors import UserError
from ser.predict.clips import Segmentation, open_clip, read_pieces
from ser.predict.sources import read_source
from ser.predict.turn_files import Turn
from ser.predict.turns import Turns, cut_turns

RATE = 16_000
ANNA = "SPEAKER talk 1 0.5 1.5 <NA> <NA> anna <NA> <NA>\n"


def line(start, seconds, speaker="anna", file="talk"):
    return f"SPEAKER {file} 1 {start} {seconds} <NA> <NA> {speaker} <NA> <NA>\n"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a text as an RTTM file."""

    def read_text(text, suffix=".rttm"):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Turns.read(path)

    return read_text


def test_turns_of_several_files_are_sorted_and_found_by_the_file_name(read):
    turns = read(
        "; by\n;; hand\n\nSPKR-INFO talk 1 <NA> <NA> <NA> adult_female anna <NA> <NA>\n"
        + line(3, 1, "ben")
        + line(0.5, 1.5)
        + line(0, 9, "<NA>", "a_b.c")
    )
    assert turns.of("/x/talk.wav") == [Turn(0.5, 2, "anna"), Turn(3, 4, "ben")]
    assert turns.of("a b.c.flac") == [Turn(0, 9, None)]
    assert turns.of("other.wav") == turns.of("") == ()
    assert turns.missing("/x/other.wav").endswith(
        "no turns of 'other', only of talk, a_b.c; name the recording in it as 'other', or give "
        "its own turns."
    )
    assert read(ANNA).of("") == [Turn(0.5, 2, "anna")]
    assert turns.also_for("-") is turns
    assert read(ANNA).also_for("-").of("-") == [Turn(0.5, 2, "anna")]


def test_a_recording_may_be_named_with_its_folder_and_suffix(read):
    turns = read(
        "start,end,speaker,file\n0,1,a,/data/x/talk.FLAC\n1,2,b,one/x y.wav\n2,3,c,two/x y.wav\n",
        ".csv",
    )
    assert turns.of("talk.wav") == [Turn(0, 1, "a")]
    assert turns.of("/z/two/x y.wav") == [Turn(2, 3, "c")]
    assert turns.of("x y.wav") == turns.of("/z/atwo/x y.wav") == ()
    assert "several recordings called 'x y' (one/x y.wav, two/x y.wav)" in turns.missing("x y.wav")
    assert turns.unused(["talk.wav", "one/x y.wav"]).endswith(
        ": 1 turn left out, of recordings that are not in this call (the first is 'two/x y.wav')."
    )
    assert read(ANNA + line(0, 1, file="C:\\x\\b.wav")).unused(["talk", "b.wav"]) == ""


def test_much_more_audio_than_a_recording_has_is_announced(tmp_path):
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.zeros(RATE * 60), RATE)
    clip = read_source(path)
    turns = [(0, 60, str(speaker)) for speaker in range(120)]
    assert Turns.read(turns).workload([clip]) == "turns: 120 turns, 2 h of audio to predict."
    assert Turns.read([(0, 9999, "a"), (0, 9999, "b")]).workload([clip]) == ""
    assert Turns.read(turns[:11]).workload([clip]) == ""


def test_names_of_any_script_are_compared_composed(read):
    name = unicodedata.normalize("NFD", "Gespräch_日本")
    turns = read("\ufeff" + line(0, 1, "Zoë", "Gespräch_日本").replace("\n", "\r\n"))
    assert turns.of(f"{name}.wav") == [Turn(0, 1, "Zoë")]


def test_turns_of_one_speaker_are_joined_where_they_overlap(read):
    turns = read(line(0, 2) + line(1, 3) + line(1.5, 1) + line(1, 1, "ben") + line(5, 0))
    assert turns.of("talk.wav") == [Turn(0, 4, "anna"), Turn(1, 2, "ben"), Turn(5, 5, "anna")]


def test_a_csv_has_columns_by_name_and_perhaps_the_file_of_each_turn(read):
    turns = read(
        "speaker,end,start,file,score\nben,4,3,talk,1\n\nZoë Ü,2,0.5,talk,\n,9,0,a_b,\n", ".csv"
    )
    assert turns.of("talk.wav") == [Turn(0.5, 2, "Zoë Ü"), Turn(3, 4, "ben")]
    assert turns.of("a b.flac") == [Turn(0, 9, None)]
    assert turns.named
    assert turns.of("other.wav") == ()
    unnamed = read('\ufeffstart,end,speaker\r\n0,1,"a, b"\r\n', ".csv")
    assert not unnamed.named
    assert unnamed.of("any.wav") == unnamed.of("") == [Turn(0, 1, "a, b")]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_csv_may_have_capitals_and_another_separator(read, separator):
    text = "\nStart,END, Speaker\n0.5,2,Anna\n"
    assert read(text.replace(",", separator), ".csv").of("") == [Turn(0.5, 2, "Anna")]
    assert read("start;end;speaker\n0,5;2;a\n", ".csv").of("") == [Turn(0.5, 2, "a")]


def test_successive_words_of_a_speaker_are_a_turn_in_the_json_of_whisperx(read):
    words = [("a", 0.5, 0.7), ("a", 0.8, 1.0), ("b", 1.2, 1.5), (None, 1.6, 1.9)]
    timed = [{"start": a, "end": b} | ({"speaker": who} if who else {}) for who, a, b in words]
    timed.insert(1, {"word": "7"})  # WhisperX cannot align a number
    segments = [
        {"start": 0.4, "end": 2.0, "text": "x 7 x x x", "speaker": "b", "words": timed},
        {"start": 3, "end": 4.5, "text": "y", "words": []},
    ]
    turns = read(json.dumps({"segments": segments, "language": "en"}), ".json")
    assert turns.of("any.wav") == [Turn(0.5, 1.0, "a"), Turn(1.2, 1.9, "b"), Turn(3, 4.5, None)]
    assert [turn.number for turn in turns.of("")] == [1, 1, 2]


@pytest.mark.parametrize(
    ("suffix", "text", "problem"),
    [
        (
            ".csv",
            "from,to,speaker\n",
            "line 1: there is no column 'start' among from, to, ",
        ),
        (
            ".csv",
            "start,end,speaker\n0,1\n",
            "line 2: it has 2 cells and the header 3; ",
        ),
        (".csv", "start,end,speaker\n2,1,a\n", "line 2: it is from 2 to 1 s; give an end"),
        (".csv", "start,end,speaker\n0,inf,a\n", "line 2: its end is 'inf'; give seconds from 0"),
        (".csv", 'start,end,speaker\n"0,1,a\n', "line 2: its start is '\"0'; give seconds from 0"),
        (".csv", "start,end,speaker\n", "it has no row; give the turns of a diarisation."),
        (".csv", "\n \n", "it is empty; give a table with columns start, end and speaker."),
        (".csv", "start,END,end,speaker\n", "line 1: two columns are called 'end'; rename one"),
        (
            ".csv",
            f"start,end,speaker\n0,1,{'a' * 131_073}\n",
            "line 2: the name of its speaker",
        ),
        (".json", b'{"segments": "\xe9"}', "line 1: it is not UTF-8; save the file as UTF-8."),
        (".json", f'{{"segments": {"9" * 5000}}}', "an integer in it is too large; give the JSON"),
        (".json", "[]", "it holds no JSON object; give the JSON that WhisperX writes."),
        (".json", '{"segments": {}}', "it has no list 'segments'; give the JSON"),
        (".json", '{"segments": [3]}', "segment 1: it is not an object; give the JSON"),
        (
            ".json",
            '{"segments": [{"words": 3}]}',
            "segment 1: its words are not a list; ",
        ),
        (".json", '{"segments": [{"start": 1}]}', "segment 1: its end is missing or not a "),
        (".json", '{"segments": [{"start": 0, "end": NaN}]}', "segment 1: its end is missing or "),
        (
            ".json",
            '{"segments": [{"start": 0, "end": 1, "speaker": 3}]}',
            "segment 1: its ",
        ),
        (".json", "[" * 100_000, "it is nested too deep; give the JSON that WhisperX writes."),
    ],
)
def test_a_mistake_in_a_table_or_json_names_its_place(read, tmp_path, suffix, text, problem):
    with pytest.raises(UserError) as error:
        read(text, suffix)
    assert str(error.value).startswith(f"{tmp_path}/x{suffix}: {problem}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ANNA + "SPEAKER talk 1 0.5\n", "line 2: it has 4 fields; give SPEAKER, file, "),
        (ANNA + line(1, 2, "anna b"), "line 2: it has 11 fields; give SPEAKER, "),
        (line("one", 2), "line 1: its onset is 'one'; give seconds from 0 to 1e+06."),
        (line(1, "nan"), "line 1: its duration is 'nan'; give seconds "),
        (line(1, -2), "line 1: its duration is '-2'; give seconds "),
        (line(1, "inf"), "line 1: its duration is 'inf'; give seconds "),
        (line("1e9", 1), "line 1: its onset is '1e9'; give seconds "),
        (ANNA + "start,end,speaker\n", "line 2: 'start,end,speaker' is not an RTTM object type"),
        (line(0, 1, "a" * 101), "line 1: the name of its speaker is long or not printable"),
        (line(0, 1, "\x1b[31m"), "line 1: the name of its speaker is long or not printable"),
        (ANNA.encode() + b"SPEAKER \xe9\n", "line 2: it is not UTF-8; save the file as UTF-8."),
        (";; nothing\n", "it has no SPEAKER line; give the turns of a diarisation."),
        ("", "it has no SPEAKER line; give the turns of a diarisation."),
    ],
)
def test_a_mistake_names_file_line_and_remedy(read, tmp_path, text, problem):
    with pytest.raises(UserError) as error:
        read(text)
    assert str(error.value).startswith(f"{tmp_path}/x.rttm: {problem}")
    assert "\n" not in str(error.value)


def test_an_absent_and_a_huge_file_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        Turns.read(tmp_path / "absent.rttm")
    huge = tmp_path / "huge.rttm"
    huge.touch()
    os.truncate(huge, (64 << 20) + 1)
    with pytest.raises(UserError, match="over 64 MB"):
        Turns.read(huge)


def test_twenty_thousand_lines_take_seconds(read):
    text = "".join(line(i / 10, 0.3, f"s{i % 7}") for i in range(20_000))
    started = time.process_time()  # it would be minutes if each line looked at all others
    turns = read(text).of("talk")
    assert len(turns) == 20_000
    pieces = list(cut_turns([np.zeros(RATE, np.float32)] * 20, turns))
    assert time.process_time() - started < 4
    assert len(pieces) == 200


def test_turns_are_given_in_python_too():
    turns = Turns.read([(2, 3.5, None), (0, 1, "anna")])
    assert turns.of("any.wav") == turns.of("") == [Turn(0, 1, "anna"), Turn(2, 3.5, None)]
    assert Turns.read(turns) is turns
    for given_turns, problem in [
        ([(0, 1)], "turns: number 1 is not "),
        ([(0, 1, "a"), (2, 1, "a")], "turns: number 2 is from 2 to 1 s; give a start from 0"),
        ([("a", 1, "a")], "turns: number 1: start and end are not numbers"),
        ([(0, 10**400, "a")], "turns: number 1: start and end are not numbers"),
        ([(0, float("nan"), "a")], "turns: number 1 is from 0 to nan s"),
    ]:
        with pytest.raises(UserError) as error:
            Turns.read(given_turns)
        assert str(error.value).startswith(problem)


def test_a_long_turn_is_divided_equally():
    blocks = [np.zeros(RATE * 7, np.float32)] * 9
    pieces = list(cut_turns(blocks, [Turn(1, 46, "a"), Turn(2, 32, "b")]))
    assert [(at / RATE, len(wave) / RATE, who) for at, wave, who in pieces] == [
        *((1, 15, "a"), (2, 30, "b"), (16, 15, "a"), (31, 15, "a")),
    ]


@settings(deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 50_000), st.integers(1, 30_000)), max_size=12),
    block=st.integers(1, 40_000),
    length=st.integers(1, 60_000),
)
def test_a_turn_is_cut_from_its_place_however_the_audio_is_read(spans, block, length):
    wave = np.arange(length, dtype=np.float32)
    turns = [Turn(a / RATE, (a + n) / RATE, str(i)) for i, (a, n) in enumerate(spans)]
    turns.sort(key=lambda turn: turn.start)
    blocks = [wave[i : i + block] for i in range(0, length, block)]
    pieces = {who: (at, part) for at, part, who in cut_turns(blocks, turns)}
    assert set(pieces) == {str(i) for i, (a, _) in enumerate(spans) if a < length}
    for i, (a, n) in enumerate(spans):
        if a < length:
            assert pieces[str(i)][0] == a
            np.testing.assert_array_equal(pieces[str(i)][1], wave[a : a + n])


def clip_of(turns, seconds=2):
    """Return a clip of noise that has been read, and its pieces."""
    wave = np.random.default_rng(0).standard_normal(seconds * RATE).astype("f4") * 0.1
    clip = open_clip((wave, RATE), Segmentation(turns=turns))
    return clip, [piece for _, piece in read_pieces([clip]) if piece is not None]


def test_turns_are_the_pieces_of_a_clip_and_those_that_end_beyond_it_or_are_short_a_note():
    turns = [(0.0, 1.0, "a"), (0.5, 9.0, "b"), (1.0, 1.02, "c"), (1.5, 1.5, "c"), (1.7, 1.9, "d")]
    clip, pieces = clip_of(Turns.read(turns))
    assert [(p.start, p.end, p.speaker) for p in pieces] == [
        *((0, 1, "a"), (0.5, 2, "b"), (1.7, 1.9, "d")),
    ]
    assert clip.notes() == [
        "1 turn of 5 ends after the audio, which is 2.0 s long: are they of this file?",
        "2 turns of 5 are shorter than 0.025 s and left out.",
        "1 turn of 5 is shorter than 0.25 s, too short for a reliable prediction.",
    ]
    assert not clip.error


def test_a_turn_that_begins_beyond_the_audio_is_refused_by_file_and_line(read, tmp_path):
    clip, _ = clip_of(read(";; by hand\n" + line(7, 1) + line(0, 1)))
    assert clip.refused
    assert clip.error == (
        f"{tmp_path}/x.rttm: line 2: the turn begins at 7.0 s, and the audio is 2.0 s long; give "
        "the turns of this recording."
    )
    assert clip_of(Turns.read([(0, 1, "a"), (2.05, 3, "a")]))[0].error == ""
    clip, _ = clip_of(Turns.read([(0, 1, "a"), (2.2, 3, "a")]))
    assert clip.error.startswith("turns: number 2: the turn begins at 2.2 s")
