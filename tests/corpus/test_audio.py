import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.corpus.audio import (
    SAMPLE_RATE,
    AudioInfo,
    ChannelPower,
    blocks,
    check_signal,
    duration,
    info,
    load,
)
from ser.corpus.errors import AudioError

SHARED = os.environ.get("SER_SHARED")


def noise(seconds: float, rate: int = SAMPLE_RATE, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * rate))).astype(np.float32)


def write(path: Path, signal: np.ndarray, rate: int = SAMPLE_RATE, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, signal, rate, subtype=subtype)
    return path


def test_16_khz_mono_comes_back_as_it_is(tmp_path: Path) -> None:
    signal = noise(0.5)
    loaded = load(write(tmp_path / "a.wav", signal))
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, signal)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right, third = noise(0.1, seed=1), noise(0.1, seed=2), noise(0.1, seed=3)
    path = write(tmp_path / "a.wav", np.stack([left, right, third], axis=1))
    np.testing.assert_allclose(load(path), (left + right + third) / 3, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled_without_changing_a_tone(tmp_path: Path, rate: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    loaded = load(write(tmp_path / "a.wav", tone, rate))
    expected = np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert loaded.shape == (SAMPLE_RATE,)
    np.testing.assert_allclose(loaded[800:-800], expected[800:-800], atol=1e-3)


def test_what_is_above_8_khz_does_not_fold_back(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 11_000 * np.arange(48_000) / 48_000).astype(np.float32)
    loaded = load(write(tmp_path / "a.wav", tone, 48_000))
    assert np.abs(loaded[800:-800]).max() < 1e-4


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_segment_is_the_same_as_a_slice(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", noise(2.0), subtype="PCM_16")
    whole = load(path)
    np.testing.assert_array_equal(load(path, 0.5, 1.25), whole[8_000:20_000])
    np.testing.assert_array_equal(load(path, start=1.5), whole[24_000:])
    np.testing.assert_array_equal(load(path, end=0.5), whole[:8_000])
    np.testing.assert_array_equal(load(path, 1.5, 99.0), whole[24_000:])


def test_lossy_formats_are_read(tmp_path: Path) -> None:
    for suffix in ("mp3", "ogg"):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, noise(1.0), SAMPLE_RATE)
        assert len(load(path)) == pytest.approx(SAMPLE_RATE, abs=2400)


def test_duration_is_read_from_the_header(tmp_path: Path) -> None:
    assert duration(write(tmp_path / "a.wav", noise(0.75, 44_100), 44_100)) == 0.75


def test_info_is_what_the_header_claims(tmp_path: Path) -> None:
    stereo = np.stack([noise(1.5, 44_100)] * 2, axis=1)
    path = write(tmp_path / "a.flac", stereo, 44_100, subtype="PCM_16")
    assert info(path) == AudioInfo(44_100, 2, 1.5)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # 36 bits of STREAMINFO: samples in total, 0 where they are unknown
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert info(path) == AudioInfo(44_100, 2, None)
    with pytest.raises(AudioError, match=r"^no such file$"):
        info(tmp_path / "absent.wav")


def test_a_missing_and_an_empty_file_and_a_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not a wave file, only its name is")
    (tmp_path / "bytes.raw").write_bytes(b"0123456789")
    reasons = {
        "absent.wav": "no such file",
        "empty.wav": "empty file (0 bytes)",
        "text.wav": "not audio (Format not recognised)",
        "bytes.raw": "not audio (Format not recognised)",
    }
    for name, reason in reasons.items():
        for read in (load, duration):
            with pytest.raises(AudioError) as caught:
                read(tmp_path / name)
            assert str(caught.value) == reason


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"^is a folder$"):
        load(tmp_path)


def test_a_flac_cut_in_the_middle_is_an_audio_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(2.0), subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:2_000])
    with pytest.raises(AudioError) as caught:
        load(path)
    assert str(caught.value) == "cut short (0.0 s of the 2.0 s that its header claims)"


@pytest.mark.parametrize(("start", "end"), [(1.0, None), (5.0, 6.0), (0.5, 0.5), (0.5, 0.2)])
def test_a_span_without_samples(tmp_path: Path, start: float, end: float | None) -> None:
    path = write(tmp_path / "a.wav", noise(1.0))
    with pytest.raises(AudioError, match=r"^no samples between start and end$"):
        load(path, start, end)


@pytest.mark.parametrize(
    ("signal", "reason"),
    [
        (np.full(1000, np.nan, np.float32), "contains NaN or infinite samples"),
        (np.full(1000, np.inf, np.float32), "contains NaN or infinite samples"),
        (np.zeros(1000, np.float32), "silent (all samples are zero)"),
        (np.ones(399, np.float32), "shorter than 25 ms"),
    ],
)
def test_useless_signals_are_explained(tmp_path: Path, signal: np.ndarray, reason: str) -> None:
    for read in (check_signal, lambda s: load(write(tmp_path / "a.wav", s))):
        with pytest.raises(AudioError) as caught:
            read(signal)
        assert str(caught.value) == reason


def test_25_ms_are_enough(tmp_path: Path) -> None:
    assert len(load(write(tmp_path / "a.wav", noise(0.025)))) == 400


def test_one_nan_in_a_resampled_clip_is_found(tmp_path: Path) -> None:
    signal = noise(0.5, 44_100)
    signal[5_000] = np.nan
    with pytest.raises(AudioError, match=r"^contains NaN or infinite samples$"):
        load(write(tmp_path / "a.wav", signal, 44_100))


def test_threads_read_what_one_thread_reads(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.wav", noise(0.3, 44_100, i), 44_100) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(load, paths * 4))
    alone = [load(path) for path in paths] * 4
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_blocks_are_what_load_gives(tmp_path: Path, rate: int, channels: int) -> None:
    signal = np.random.default_rng(0).standard_normal((rate * 7, channels)) * 0.1
    soundfile.write(tmp_path / "a.wav", signal, rate, subtype="FLOAT")
    parts = list(blocks(tmp_path / "a.wav", 2.0))
    assert [len(block) for block in parts] == [32_000, 32_000, 32_000, 16_000]
    np.testing.assert_allclose(np.concatenate(parts), load(tmp_path / "a.wav"), atol=1e-6)


def test_a_file_that_is_cut_short_is_reported(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).standard_normal(5 * 16_000) * 0.1
    for suffix, reason in (("mp3", "cut short (2"), ("flac", "cut short (2")):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, signal, 16_000)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for read in (load, lambda path: list(blocks(path))):
            with pytest.raises(AudioError) as caught:
                read(path)
            assert str(caught.value).startswith(reason)


def write_media(path: Path, codec: str, seconds: float = 3.0) -> np.ndarray:
    """Write a stereo tone of 48 kHz; return what it is in mono at 16 kHz."""
    av = pytest.importorskip("av")
    times = np.arange(round(seconds * 48_000)) / 48_000
    tone = np.stack([0.4 * np.sin(2 * np.pi * 300 * times)] * 2).astype(np.float32)
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=48_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return tone[0, ::3]


@pytest.mark.parametrize(("suffix", "codec"), [("m4a", "aac"), ("mp4", "aac"), ("webm", "libopus")])
def test_what_libsndfile_cannot_open_goes_to_ffmpeg(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    tone = write_media(path, codec)
    signal = load(path)
    assert signal.dtype == np.float32
    assert abs(len(signal) - len(tone)) < 2_000
    assert duration(path) == pytest.approx(3.0, abs=0.1)
    # the codec shifts the tone by its delay: the spectrum has its peak where it was
    spectrum = np.abs(np.fft.rfft(signal[8_000:24_000]))
    assert int(spectrum.argmax()) == 300
    np.testing.assert_allclose(np.concatenate(list(blocks(path, 1.0))), signal, atol=1e-6)
    part = load(path, 1.0, 2.0)  # but for the ends, where the resampler knows less
    np.testing.assert_allclose(part[100:-100], signal[16_100:31_900], atol=1e-3)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(b"something")
    with pytest.raises(AudioError) as caught:
        load(tmp_path / "a.m4a")
    assert str(caught.value) == ".m4a files need `pip install 'ser-pipeline[media]'`"
    (tmp_path / "a.wav").write_bytes(b"something")
    with pytest.raises(AudioError, match=r"^not audio \(Format not recognised\)$"):
        load(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["clip", "clip.m3u8", "clip.m4a"])
@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.mka\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{folder}/secret.mka\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_list_of_files_opens_none_of_them(tmp_path: Path, name: str, text: str) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "secret.mka"), "w", format="matroska") as file:
        stream = file.add_stream("mp2", rate=SAMPLE_RATE)
        frame = av.AudioFrame.from_ndarray(np.ones((1, 16_000), "i2"), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        file.mux([*stream.encode(frame), *stream.encode(None)])
    assert len(load(tmp_path / "secret.mka")) > 15_000
    (tmp_path / name).write_text(text.format(folder=tmp_path))
    with pytest.raises(AudioError, match=r"^not audio \(Format not recognised\)$"):
        load(tmp_path / name)


def test_a_rate_that_no_microphone_has_is_not_audio(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(0.5), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[24:28] = (2_000_000_000).to_bytes(4, "little")
    path.write_bytes(data)
    for reading in (info, load, duration, lambda path: next(blocks(path))):
        with pytest.raises(AudioError, match=r"^not audio \(2000000000 Hz and 1 channels\)$"):
            reading(path)


@pytest.mark.parametrize(
    ("start", "end", "samples"),
    [
        (float("nan"), 1.0, 16_000),
        (0.5, float("nan"), 24_000),
        (-1.0, 0.5, 8_000),
        (-1e300, 1e300, 32_000),
        (1.5, float("inf"), 8_000),
        (float("-inf"), 0.25, 4_000),
    ],
)
def test_bounds_outside_the_file_are_its_own(
    tmp_path: Path, start: float, end: float, samples: int
) -> None:
    for suffix in ("wav", "mp3", "ogg"):
        soundfile.write(tmp_path / f"a.{suffix}", noise(2.0), SAMPLE_RATE)
        assert len(load(tmp_path / f"a.{suffix}", start, end)) == samples


def test_channels_power_is_of_what_is_mixed(tmp_path: Path) -> None:
    left, right = noise(1.0, 44_100, 1), 2 * noise(1.0, 44_100, 2)
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1), 44_100)
    for start, end in ((None, None), (0.25, 0.75)):
        channels = ChannelPower()
        load(path, start, end, channels)
        powers = channels.powers
        assert powers == pytest.approx([0.01, 0.04], rel=0.03)
    assert ChannelPower().powers is None


CASES = {  # of the folder of cases: seconds, by what is right for each
    "flac_unknown_length/flac_nolen.flac": 3.64,
    "gsm_unseekable/sub_GSM610.wav": 3.68,
    "gsm_unseekable/sub_G721_32.wav": 3.64,
    "mp3_concatenated/podcast_ad_then_show.mp3": 15.55,
    "mp3_without_xing/cbr64_60.mp3": 58.23,
}


@pytest.mark.skipif(SHARED is None, reason="SER_SHARED is not set")
@pytest.mark.parametrize("name", CASES)
def test_cases_that_were_found(name: str) -> None:
    path = Path(str(SHARED)) / "cases" / name
    signal = load(path)
    assert len(signal) / SAMPLE_RATE == pytest.approx(CASES[name], abs=0.01)
    assert duration(path) == pytest.approx(len(signal) / SAMPLE_RATE, abs=1e-4)
    np.testing.assert_array_equal(np.concatenate(list(blocks(path, 1.0))), signal)
    if info(path).rate == SAMPLE_RATE:  # where a span is not resampled by itself
        np.testing.assert_array_equal(load(path, 1.0, 2.0), signal[16_000:32_000])
