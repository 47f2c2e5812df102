"""Clips: what is one piece, windows that cover all, spans of speech, arrays of any kind."""

from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.audio import load
from corpus.errors import UserError
from ser.predict.clips import LONG, PAD, Cutting, ahead, at_speech_of, open_clip, speech_spans
from ser.synthesis import synthesize

RATE = 16_000


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Return two seconds or so of synthesized speech."""
    pytest.importorskip("silero_vad")
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("speech")
    manifest = synthesize(folder, speakers=5, per_class=1)
    return load(folder / "audio" / manifest.frame["path"][0])


def blocks_of(wave, size):
    return [wave[i : i + size] for i in range(0, len(wave), size)]


def noise(seconds, seed=0):
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 0.1).astype("f4")


@settings(deadline=None, max_examples=40)
@given(
    seconds=st.floats(0.2, 40),
    window=st.sampled_from([1.0, 2.5, 10.0]),
    share=st.sampled_from([0.3, 0.5, 1.0]),
    block=st.integers(2_000, 200_000),
)
def test_windows_cover_everything_however_it_is_read(seconds, window, share, block):
    wave = noise(seconds)
    cutting = Cutting(True, "windows", window, window * share)
    pieces = list(cutting.pieces(blocks_of(wave, block)))
    assert pieces[0].start == 0
    assert pieces[-1].end == pytest.approx(len(wave) / RATE, abs=0.025)  # less is no clip
    for before, after in pairwise(pieces):
        assert before.start < after.start <= before.end < after.end
        assert len(before.wave) == round(window * RATE)
    for piece in pieces:
        first, last = round(piece.start * RATE), round(piece.end * RATE)
        np.testing.assert_array_equal(piece.wave, wave[first:last])


def test_a_clip_of_thirty_seconds_is_one_piece_and_a_longer_one_is_not(tmp_path):
    for seconds, pieces in ((30, 1), (31, 6)):
        soundfile.write(tmp_path / "a.wav", noise(seconds), RATE)
        for source in (tmp_path / "a.wav", (noise(seconds), RATE)):
            clip = open_clip(source, Cutting(cut="windows"))
            assert len(list(clip.pieces)) == pieces
            assert clip.seconds == seconds


def test_digital_silence_gives_no_window():
    wave = np.concatenate([noise(10), np.zeros(20 * RATE, "f4"), noise(5)])
    pieces = Cutting(cut="windows", hop=10).pieces([wave])
    assert [(p.start, p.end) for p in pieces] == [(0, 10), (30, 35)]


def sure_of(*runs):
    return np.concatenate([np.full(count, chance) for count, chance in runs])


def test_speech_ends_at_a_pause_and_short_noises_are_dropped():
    sure = sure_of((20, 0.0), (40, 0.9), (9, 0.1), (5, 0.6), (30, 0.0), (5, 0.9), (30, 0.0))
    spans, rest = speech_spans(sure)
    assert spans == [(20 - PAD, 74 + PAD)]
    assert rest == len(sure) - PAD
    assert speech_spans(sure_of((20, 0.4)))[0] == []


def test_speech_that_goes_on_is_looked_at_again():
    spans, rest = speech_spans(sure_of((20, 0.0), (40, 0.9)))
    assert (spans, rest) == ([], 20 - PAD)


def test_long_speech_is_cut_where_it_is_least_sure():
    sure = np.full(LONG + 100, 0.9)
    sure[300] = 0.4
    spans, rest = speech_spans(sure)
    assert spans == [(0, 300)]
    assert rest == 300


def test_real_speech_is_cut_at_its_pauses_however_it_is_read(speech):
    gap = np.zeros(2 * RATE, "f4")
    wave = np.concatenate([gap, speech, gap, speech, gap])
    whole = [(p.start, p.end) for p in at_speech_of([wave])]
    parts = [(p.start, p.end) for p in at_speech_of(blocks_of(wave, 30_000))]
    assert len(whole) == 2
    assert whole == parts
    seconds = len(speech) / RATE
    for (start, end), begun in zip(whole, (2, 4 + seconds), strict=True):
        assert abs(start - begun) < 0.5
        assert abs(end - begun - seconds) < 0.7


def test_results_keep_their_order_and_few_are_made_ahead():
    made = []

    def make(i):
        made.append(i)
        return i

    stream = ahead(make, iter(range(100)))
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    assert max(made) < 12
    assert list(stream) == list(range(3, 100))


def test_what_cannot_be_cut_so_is_said():
    with pytest.raises(UserError) as error:
        Cutting(window=40)
    assert str(error.value) == (
        "window 40 and hop 5: give a window of 1 to 30 s and a hop of 0.1 s up to the window."
    )


def test_arrays_of_any_rate_type_and_channels_are_the_same_clip():
    wave = noise(1.0)
    whole = (wave * 32767).astype("i2")
    for samples in (whole, np.stack([whole, whole], 1), whole / np.float64(32768)):
        [piece] = open_clip((samples, RATE), Cutting()).pieces
        np.testing.assert_allclose(piece.wave, whole / 32768, atol=1e-7)
        assert piece.wave.dtype == np.float32
    [piece] = open_clip((np.repeat(wave, 2), 2 * RATE), Cutting()).pieces
    assert len(piece.wave) == len(wave)
