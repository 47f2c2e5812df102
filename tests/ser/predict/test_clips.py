"""Clips: what is one piece, windows that cover all, spans of speech, arrays of any kind."""

from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus.errors import UserError
from ser.predict.clips import Segmentation, open_clip

RATE = 16_000


def blocks_of(wave, size):
    return [wave[i : i + size] for i in range(0, len(wave), size)]


def noise(seconds, seed=0):
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 0.1).astype("f4")


@settings(deadline=None)
@given(
    seconds=st.floats(0.2, 40),
    window=st.sampled_from([1.0, 2.5, 10.0]),
    share=st.sampled_from([0.3, 0.5, 1.0]),
    block=st.integers(2_000, 200_000),
)
def test_windows_cover_everything_however_it_is_read(seconds, window, share, block):
    wave = noise(seconds)
    cutting = Segmentation(True, "windows", window, window * share)
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
            clip = open_clip(source, Segmentation(cut="windows"))
            assert len(list(clip.pieces)) == pieces
            assert clip.seconds == seconds


def test_digital_silence_gives_no_window():
    wave = np.concatenate([noise(10), np.zeros(20 * RATE, "f4"), noise(5)])
    pieces = Segmentation(cut="windows", hop=10).pieces([wave])
    assert [(p.start, p.end) for p in pieces] == [(0, 10), (30, 35)]


def test_unusable_chunk_sizes_are_reported():
    with pytest.raises(UserError) as error:
        Segmentation(window=40)
    assert str(error.value) == (
        "window 40 and hop 5: give a window of 1 to 30 s and a hop of 0.1 s up to the window."
    )


def test_arrays_of_any_rate_type_and_channels_are_the_same_clip():
    wave = noise(1.0)
    whole = (wave * 32767).astype("i2")
    for samples in (whole, np.stack([whole, whole], 1), whole / np.float64(32768)):
        [piece] = open_clip((samples, RATE), Segmentation()).pieces
        np.testing.assert_allclose(piece.wave, whole / 32768, atol=1e-7)
        assert piece.wave.dtype == np.float32
    [piece] = open_clip((np.repeat(wave, 2), 2 * RATE), Segmentation()).pieces
    assert len(piece.wave) == len(wave)
