"""Live audio: the windows of a stream are those of a file, and what is too late is left out."""

import json

import numpy as np
import pytest
import soundfile

from ser.corpus.errors import UserError
from ser.predict.clips import Segmentation
from ser.predict.live import LiveAudio, LivePrediction, RingBuffer


def noise(seconds, rate=16_000, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def pushed(wave, rate, window, hop, size):
    """Return the windows of a stream that comes in blocks of `size` samples, as it comes."""
    live, windows = LiveAudio(rate, window, hop), []
    for start in range(0, len(wave), size):
        live.push(wave[start : start + size])
        while (piece := live.next_window()) is not None:
            windows.append(piece)
    live.close()
    assert live.left_out == 0
    return windows + list(live.windows())


def test_a_ring_buffer_keeps_the_last_samples_at_their_positions():
    ring = RingBuffer(5)
    for first, last in ((0, 3), (3, 4), (4, 9), (9, 21)):  # the last is longer than the buffer
        ring.write(np.arange(first, last, dtype=np.float32))
        held = ring.read(ring.oldest, ring.end).tolist()
        assert held == list(range(max(0, last - 5), last))


@pytest.mark.parametrize("size", [160, 7_001, 100_000])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 3.9, 5.2])
def test_windows_are_those_of_a_file_whatever_the_blocks(seconds, size):
    wave = noise(seconds)
    expected = list(Segmentation(True, "windows", 2.0, 1.5).pieces(iter([wave])))
    windows = pushed(wave, 16_000, 2.0, 1.5, size)
    assert [(p.start, p.end) for p in windows] == [(p.start, p.end) for p in expected]
    assert all(np.array_equal(a.wave, b.wave) for a, b in zip(windows, expected, strict=True))


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_a_streamed_file_gets_the_predictions_of_ser_predict(small, tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", noise(3.3, rate), rate, "FLOAT")
    wave, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    options = {"timeline": True, "cut": "windows", "window": 1.5, "hop": 1.0}
    expected = small.p(tmp_path / "a.wav", **options).segments
    windows = pushed(wave, rate, 1.5, 1.0, rate // 50)
    assert [(p.start, p.end) for p in windows] == [(s.start, s.end) for s in expected]
    for piece, segment in zip(windows, expected, strict=True):
        prediction = LivePrediction.of(piece, small.p((piece.wave, 16_000)), 0)
        assert prediction.emotion == segment.emotion
        assert prediction.probabilities == pytest.approx(segment.probabilities, abs=1e-6)
        line = json.loads(prediction.to_json())
        assert (line["start"], line["end"], line["error"]) == (piece.start, piece.end, None)


def test_windows_are_left_out_where_the_reader_is_too_slow_and_the_others_are_exact():
    wave = noise(40.0)
    live = LiveAudio(16_000, 2.0, 1.0)
    live.push(wave)  # 40 s, of which the buffer holds 32
    piece = live.next_window()
    assert (piece.start, live.left_out) == (8.0, 8)
    assert np.array_equal(piece.wave, wave[8 * 16_000 : 10 * 16_000])
    live.close()
    assert [p.start for p in live.windows()] == [float(s) for s in range(9, 39)]
    assert live.left_out == 8


def test_silence_and_broken_samples_cost_a_window_and_not_the_stream(small):
    broken = np.full(16_000, np.nan, np.float32)
    broken[::2] = np.inf
    (piece,) = pushed(broken, 16_000, 1.0, 1.0, 4_000)
    prediction = LivePrediction.of(piece, next(small.p.stream([(piece.wave, 16_000)])), 0)
    assert (prediction.emotion, prediction.error) == (None, "silent (all samples are zero)")


def test_values_out_of_bounds_are_refused():
    with pytest.raises(UserError, match=r"^rate 10: give a rate of 1000 to 768000 Hz\.$"):
        LiveAudio(10)
    with pytest.raises(UserError, match=r"^window 40 and hop 5: give a window of 1 to 30 s"):
        LiveAudio(16_000, 40.0)
