"""Every format, to the letter."""

import io
import json
from dataclasses import replace

import numpy as np
from rich.console import Console

from ser.predict import formats, terminal
from ser.predict.joining import join
from ser.predict.result import Attention, Segment, Word, frame


def segment(start, end, emotion, transcript="", **more):
    p = {"angry": 0.25, "sad": 0.75} if emotion == "sad" else {"angry": 0.5, "sad": 0.5}
    heads = {"a": {"angry": 0.9, "sad": 0.1}, "b": {"angry": 0.2, "sad": 0.8}}
    return Segment(start, end, emotion, p, {"arousal": 4.5}, transcript, heads, **more)


WHOLE = join("/x/a clip.wav", 2.5, [segment(0.0, 2.5, "sad", 'so "sad"')])
PARTS = join(
    "/x/a clip.wav",
    20.0,
    [segment(1.0, 11.0, "sad", "one"), segment(6.0, 16.0, "angry", "two"), segment(17, 19, "sad")],
)


def printed(*results, **options):
    text = io.StringIO()
    terminal.print_results(results, Console(file=text, width=100), **options)
    return text.getvalue()


def test_a_clip_of_many_segments_is_their_mean_by_seconds():
    sad = (0.75 * 10 + 0.5 * 10 + 0.75 * 2) / 22
    assert PARTS.emotion == "sad"
    np.testing.assert_allclose(list(PARTS.probabilities.values()), [1 - sad, sad], rtol=1e-12)
    assert PARTS.transcript == "one"  # windows that overlap repeat words
    assert PARTS.agreeing == ["b"]


def test_segments_that_are_too_short_are_unsure_and_do_not_count_beside_longer_ones():
    brief = replace(segment(2, 2.1, "angry"), unsure=False)
    longer = replace(segment(0, 2, "sad"), unsure=False)
    clip = join("a.wav", 3.0, [longer, brief], min_confidence=0.4)
    assert [part.unsure for part in clip.segments] == [False, True]
    assert (clip.emotion, clip.unsure, clip.probabilities) == ("sad", False, longer.probabilities)
    alone = join("a.wav", 3.0, [brief], min_confidence=0.4)
    assert (alone.emotion, alone.unsure, alone.segments[0].unsure) == ("angry", True, True)
    assert join("a.wav", 3.0, [replace(brief, unsure=None)]).unsure is None


def test_an_unsure_clip_keeps_its_most_likely_class():
    parts = [
        replace(segment(0, 10, "sad", "one"), unsure=False),
        replace(segment(10, 20, "angry", "two"), unsure=True),
    ]
    clip = join("a.wav", 20.0, parts, min_confidence=0.7)  # (0.75 + 0.5) / 2 is below it
    assert (clip.emotion, clip.unsure, clip.label) == ("sad", True, "unsure")
    assert repr(clip) == "Result('a.wav', 20.0 s, sad 0.62, unsure, 2 segments)"
    assert printed(clip).splitlines()[0] == "a.wav  20.0 s  unsure (sad 0.62)"
    assert "unsure (angry 0.50)" in printed(clip, segments=True)
    assert formats.csv_rows(clip, False) == "a.wav,20,sad,true,0.375,0.625,4.5,one two,\n"
    assert formats.header(["angry", "sad"], ["arousal"], False, unsure=True)[:4] == [
        *("path", "seconds", "emotion", "unsure"),
    ]
    fields = json.loads(formats.to_json(clip))
    assert (fields["emotion"], fields["unsure"]) == ("sad", True)
    assert [part["unsure"] for part in fields["segments"]] == [False, True]
    assert formats.to_rttm(clip).splitlines()[1].split()[7] == "unsure"
    assert "unsure (angry 0.50)" in formats.to_srt(clip)
    assert 'text = "unsure"' in formats.to_textgrid(clip)
    assert join("a.wav", 20.0, parts, min_confidence=0.625).unsure is False


def test_json_is_one_line_of_everything():
    times = np.array([0.0, 0.02])
    attention = {"whisper": Attention(np.array([0.25, 0.75]), times), "text": Attention(np.ones(1))}
    result = join(
        "a.wav", 2.5, [segment(0, 2.5, "sad", attention=attention, words=[Word("so", 1.0)])]
    )
    text = formats.to_json(result)
    assert "\n" not in text
    fields = json.loads(text)
    assert list(fields) == [
        *("path", "seconds", "emotion", "probabilities", "attributes", "transcript", "heads"),
        *("segments", "notes", "unsure", "agreeing"),
    ]
    assert fields["probabilities"] == {"angry": 0.25, "sad": 0.75}
    [part] = fields["segments"]
    assert part["attention"] == {
        "whisper": {"times": [0.0, 0.02], "weights": [0.25, 0.75]},
        "text": {"times": None, "weights": [1.0]},
    }
    assert part["words"] == [{"word": "so", "weight": 1.0, "start": None, "end": None}]


def test_csv_has_a_line_a_clip_or_a_segment():
    head = formats.to_csv([formats.header(["angry", "sad"], ["arousal"], segments=False)])
    assert head == "path,seconds,emotion,p.angry,p.sad,arousal,transcript,notes\n"
    assert formats.csv_rows(WHOLE, segments=False) == (
        '/x/a clip.wav,2.5,sad,0.25,0.75,4.5,"so ""sad""",\n'
    )
    assert formats.csv_rows(PARTS, segments=True).splitlines()[1] == (
        "/x/a clip.wav,6,16,angry,0.5,0.5,4.5,two,"
    )


def test_srt():
    assert formats.to_srt(PARTS) == (
        "1\n00:00:01,000 --> 00:00:08,500\nsad (0.75)\none\n\n"
        "2\n00:00:08,500 --> 00:00:16,000\nangry (0.50)\ntwo\n\n"
        "3\n00:00:17,000 --> 00:00:19,000\nsad (0.75)\n"
    )


def test_rttm():
    assert formats.to_rttm(PARTS) == (
        "SPEAKER a_clip 1 1.000 7.500 <NA> <NA> sad <NA> <NA>\n"
        "SPEAKER a_clip 1 8.500 7.500 <NA> <NA> angry <NA> <NA>\n"
        "SPEAKER a_clip 1 17.000 2.000 <NA> <NA> sad <NA> <NA>\n"
    )


def test_textgrid_covers_everything():
    text = formats.to_textgrid(PARTS)
    assert text.startswith(
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 20.000\n'
        'tiers? <exists>\nsize = 2\nitem []:\n    item [1]:\n        class = "IntervalTier"\n'
        '        name = "emotion"\n        xmin = 0\n        xmax = 20.000\n'
        "        intervals: size = 6\n"
    )
    lines = text.splitlines()
    starts = [line.split("= ")[1] for line in lines if line.startswith("            xmin")]
    ends = [line.split("= ")[1] for line in lines if line.startswith("            xmax")]
    assert starts[:6] == ["0.000", "1.000", "8.500", "16.000", "17.000", "19.000"]
    assert ends[:6] == [*starts[1:6], "20.000"]
    labels = [line.split("= ")[1] for line in lines if line.startswith("            text")]
    assert (
        labels
        == ['""', '"sad"', '"angry"', '""', '"sad"', '""', *('""', '"one"', '"two"')] + ['""'] * 3
    )
    assert 'text = "so ""sad"""' in formats.to_textgrid(WHOLE)


def test_one_clip_is_shown_whole():
    assert printed(WHOLE) == (
        "/x/a clip.wav  2.5 s  sad (0.75)\n"
        "  sad         0.75 ██████████████████████\n"
        "  angry       0.25 ████████\n"
        "  arousal     4.50 \n".replace("4.50 \n", "4.50\n")
        + '  “so "sad"”\n'
        "  1 of 2 heads agree (a: angry)\n"
    )
    assert printed(PARTS).splitlines()[-1] == "    17.0 –   19.0 s  sad (0.75)"


def test_the_attention_of_heads_is_drawn():
    attention = {"whisper": Attention(np.array([0.1, 0.2, 0.7]), np.arange(3.0))}
    words = [Word("so", 0.25), Word("sad", 0.75)]
    result = join(
        "a.wav", 2.5, [segment(0, 2.5, "sad", "so sad", attention=attention, words=words)]
    )
    assert printed(result).splitlines()[-2:] == ["  whisper    ▂▃█", "  so 25% sad 75%"]


def test_many_clips_are_a_table():
    lines = [line for line in printed(WHOLE, PARTS).splitlines() if "clip" in line]
    assert len(lines) == 2
    assert "sad (0.75)" in lines[0]


NOTE = "The audio is nearly silent."
NOTED = join("a.wav", 20.0, PARTS.segments, ["Trained on tones.", NOTE])


def test_notes_are_in_every_format():
    assert json.loads(formats.to_json(NOTED))["notes"] == ["Trained on tones.", NOTE]
    for segments in (False, True):
        for line in formats.csv_rows(NOTED, segments=segments).splitlines():
            assert line.endswith(",Trained on tones. The audio is nearly silent.")
    assert formats.to_rttm(NOTED).splitlines()[:3] == [
        ";; Note: Trained on tones.",
        f";; Note: {NOTE}",
        "SPEAKER a 1 1.000 7.500 <NA> <NA> sad <NA> <NA>",
    ]
    assert formats.to_srt(NOTED).startswith(
        "1\n00:00:01,000 --> 00:00:08,500\nsad (0.75)\none\n"
        f"Note: Trained on tones.\nNote: {NOTE}\n\n2\n"
    )
    assert formats.to_srt(NOTED).count("Note") == 2
    tier = formats.to_textgrid(NOTED).partition('name = "notes"')[2]
    assert tier == (
        "\n        xmin = 0\n        xmax = 20.000\n        intervals: size = 1\n"
        "        intervals [1]:\n            xmin = 0.000\n            xmax = 20.000\n"
        f'            text = "Trained on tones. {NOTE}"\n'
    )
    assert printed(NOTED).splitlines()[-2:] == ["  Note: Trained on tones.", f"  Note: {NOTE}"]


def test_a_note_of_all_clips_appears_once_below_a_table():
    other = join("b.wav", 2.5, WHOLE.segments, ["Trained on tones."])
    assert printed(NOTED, other).splitlines()[-2:] == ["Note: Trained on tones.", f"a.wav: {NOTE}"]


def test_names_are_printed_as_they_are():
    named = [replace(PARTS, path=path) for path in ("[/a].wav", "[b].wav")]
    shown = printed(*named)
    assert "│ [/a].wav " in shown
    assert "│ [b].wav " in shown


def test_turns_name_their_speakers_in_every_format():
    talk = join(
        "talk.wav",
        20.0,
        [
            segment(1.0, 11.0, "sad", "one", speaker="anna"),
            segment(6.0, 8.0, "angry", "two", speaker="ben"),
            segment(12, 19, "sad", "three"),
        ],
    )
    assert talk.transcript == "one two three"
    head = formats.header(["angry", "sad"], [], segments=True, speakers=True)
    assert head[:5] == ["path", "start", "end", "speaker", "emotion"]
    rows = formats.csv_rows(talk, segments=True, speakers=True).splitlines()
    assert rows[1].startswith("talk.wav,6,8,ben,angry,")
    assert rows[2].startswith("talk.wav,12,19,,sad,")
    assert frame([talk], segments=True)["speaker"].to_list() == ["anna", "ben", None]
    assert "speaker" not in frame([talk]).columns
    assert "speaker" not in frame([PARTS], segments=True).columns
    parts = json.loads(formats.to_json(talk))["segments"]
    assert [part["speaker"] for part in parts] == ["anna", "ben", None]
    # who talks at once keeps their time
    assert formats.to_rttm(talk) == (
        "SPEAKER talk 1 1.000 10.000 <NA> sad anna <NA> <NA>\n"
        "SPEAKER talk 1 6.000 2.000 <NA> angry ben <NA> <NA>\n"
        "SPEAKER talk 1 12.000 7.000 <NA> sad <NA> <NA> <NA>\n"
    )
    assert "\n00:00:06,000 --> 00:00:08,000\nben: angry (0.50)\ntwo\n" in formats.to_srt(talk)
    tiers = [text for text in formats.to_textgrid(talk).splitlines() if "name = " in text]
    assert [tier.split('"')[1] for tier in tiers] == [
        *("emotion (anna)", "transcript (anna)", "emotion (ben)", "transcript (ben)"),
        *("emotion", "transcript"),
    ]
    assert "     6.0 –    8.0 s  ben: angry (0.50)  two" in printed(talk)
    both = printed(talk, PARTS)
    assert "ben" in both
    assert "6.0 – 8.0" in both
    assert "<td>ben</td>" in talk._repr_html_()


def test_a_speaker_with_a_space_is_one_field_of_rttm():
    talk = join("talk.wav", 2.0, [segment(0, 2, "sad", speaker="Dr Anna")])
    assert formats.to_rttm(talk) == "SPEAKER talk 1 0.000 2.000 <NA> sad Dr_Anna <NA> <NA>\n"
