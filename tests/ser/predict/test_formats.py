"""Every format, to the letter."""

import io
import json

import numpy as np
from rich.console import Console

from ser.predict import formats
from ser.predict.result import Attention, Segment, Word, join


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
    formats.print_results(results, Console(file=text, width=100), **options)
    return text.getvalue()


def test_a_clip_of_many_segments_is_their_mean_by_seconds():
    sad = (0.75 * 10 + 0.5 * 10 + 0.75 * 2) / 22
    assert PARTS.emotion == "sad"
    np.testing.assert_allclose(list(PARTS.probabilities.values()), [1 - sad, sad], rtol=1e-12)
    assert PARTS.transcript == "one"  # windows that overlap repeat words
    assert PARTS.agreeing == ["b"]


def test_json_is_one_line_of_everything():
    times = np.array([0.0, 0.02])
    looked = {"whisper": Attention(np.array([0.25, 0.75]), times), "text": Attention(np.ones(1))}
    result = join("a.wav", 2.5, [segment(0, 2.5, "sad", attention=looked, words=[Word("so", 1.0)])])
    text = formats.to_json(result)
    assert "\n" not in text
    said = json.loads(text)
    assert list(said) == [
        *("path", "seconds", "emotion", "probabilities", "attributes", "transcript", "heads"),
        *("segments", "agreeing"),
    ]
    assert said["probabilities"] == {"angry": 0.25, "sad": 0.75}
    [part] = said["segments"]
    assert part["attention"] == {
        "whisper": {"times": [0.0, 0.02], "weights": [0.25, 0.75]},
        "text": {"times": None, "weights": [1.0]},
    }
    assert part["words"] == [{"word": "so", "weight": 1.0, "start": None, "end": None}]


def test_csv_has_a_line_a_clip_or_a_segment():
    head = formats.to_csv([formats.header(["angry", "sad"], ["arousal"], segments=False)])
    assert head == "path,seconds,emotion,p.angry,p.sad,arousal,transcript\n"
    assert formats.csv_rows(WHOLE, segments=False) == (
        '/x/a clip.wav,2.5,sad,0.25,0.75,4.5,"so ""sad"""\n'
    )
    assert formats.csv_rows(PARTS, segments=True).splitlines()[1] == (
        "/x/a clip.wav,6,16,angry,0.5,0.5,4.5,two"
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


def test_where_the_heads_looked_is_drawn():
    looked = {"whisper": Attention(np.array([0.1, 0.2, 0.7]), np.arange(3.0))}
    words = [Word("so", 0.25), Word("sad", 0.75)]
    result = join("a.wav", 2.5, [segment(0, 2.5, "sad", "so sad", attention=looked, words=words)])
    assert printed(result).splitlines()[-2:] == ["  whisper    ▂▃█", "  so 25% sad 75%"]


def test_many_clips_are_a_table():
    lines = [line for line in printed(WHOLE, PARTS).splitlines() if "clip" in line]
    assert len(lines) == 2
    assert "sad (0.75)" in lines[0]
