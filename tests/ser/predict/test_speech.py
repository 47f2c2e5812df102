"""Speech in a stream: where it ends, what is dropped, how long speech is cut."""

import numpy as np
import pytest

from ser.corpus.audio import load
from ser.predict.speech import LONG, PAD, speech_parts, speech_spans
from ser.synthetic.speech import synthesize

RATE = 16_000


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Return two seconds or so of synthesized speech."""
    pytest.importorskip("silero_vad")
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("speech")
    manifest = synthesize(folder, speakers=5, per_class=1)
    return load(folder / "audio" / manifest.frame["path"][0])


def sure_of(*runs):
    return np.concatenate([np.full(count, chance) for count, chance in runs])


def test_speech_ends_at_a_pause_and_short_noises_are_dropped():
    sure = sure_of((20, 0.0), (40, 0.9), (9, 0.1), (5, 0.6), (30, 0.0), (5, 0.9), (30, 0.0))
    spans, rest = speech_spans(sure)
    assert spans == [(20 - PAD, 74 + PAD)]
    assert rest == len(sure) - PAD
    assert speech_spans(sure_of((20, 0.4)))[0] == []


def test_continuing_speech_is_segmented_again():
    spans, rest = speech_spans(sure_of((20, 0.0), (40, 0.9)))
    assert (spans, rest) == ([], 20 - PAD)


def test_long_speech_is_cut_where_it_is_least_sure():
    sure = np.full(LONG + 100, 0.9)
    sure[300] = 0.4
    spans, rest = speech_spans(sure)
    assert spans == [(0, 300)]
    assert rest == 300


def spans_of(blocks):
    return [(at / RATE, (at + len(wave)) / RATE) for at, wave, _ in speech_parts(blocks)]


def test_real_speech_is_cut_at_its_pauses_however_it_is_read(speech):
    gap = np.zeros(2 * RATE, "f4")
    wave = np.concatenate([gap, speech, gap, speech, gap])
    whole = spans_of([wave])
    parts = spans_of([wave[i : i + 30_000] for i in range(0, len(wave), 30_000)])
    assert len(whole) == 2
    assert whole == parts
    seconds = len(speech) / RATE
    for (start, end), begun in zip(whole, (2, 4 + seconds), strict=True):
        assert abs(start - begun) < 0.5
        assert abs(end - begun - seconds) < 0.7
