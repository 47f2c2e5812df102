"""Every reader of a file tells the same of it: `load`, `blocks`, `duration`, spans, `check`."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ser.corpus.audio import SAMPLE_RATE, blocks, duration, info, load
from ser.corpus.errors import AudioError
from tests.corpus.decoding.factories import encode, encode_media, noise, with_data_size, with_total

FORMS = [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("RF64", "PCM_16"),
    ("W64", "PCM_24"), ("AIFF", "PCM_16"), ("AU", "ULAW"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"),
    ("NIST", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS"),
]  # fmt: skip
EXACT = 0.1  # s that may be lacking


def attempt(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except AudioError as error:
        return str(error)


def agreed(path: Path) -> np.ndarray | str:
    """Return what all readers give, samples or an error; fails where they differ."""
    loaded: np.ndarray | str = attempt(lambda: load(path))
    streamed = attempt(lambda: np.concatenate(list(blocks(path, 0.7))))
    seconds = attempt(lambda: duration(path))
    if isinstance(loaded, str):
        assert (streamed, seconds) == (loaded, loaded)
        return loaded
    np.testing.assert_array_equal(loaded, streamed)
    assert seconds == pytest.approx(len(loaded) / SAMPLE_RATE, abs=1e-4)
    assert info(path).rate >= 1000
    first, last = 0.3 * seconds, 0.6 * seconds
    if info(path).rate == SAMPLE_RATE and last - first > 0.03:
        slice_ = loaded[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)]
        np.testing.assert_allclose(load(path, first, last), slice_, rtol=0, atol=1e-6)
    return loaded


@pytest.mark.parametrize(("form", "subtype"), FORMS)
def test_whole_cut_and_joined_files(tmp_path: Path, form: str, subtype: str | None) -> None:
    random, path = Random(form), tmp_path / f"a.{form.lower()}"
    mono_only = subtype == "GSM610"
    for case in range(3):
        rate, channels = (8_000, 1) if mono_only else random.choice([(16_000, 1), (48_000, 2)])
        seconds = random.uniform(0.5, 2.5)
        data = encode(noise(seconds, rate, channels, case), rate, form, subtype)
        path.write_bytes(data)
        whole = agreed(path)
        assert not isinstance(whole, str)
        assert len(whole) / SAMPLE_RATE == pytest.approx(seconds, abs=0.13)
        path.write_bytes(data[: random.randrange(len(data) // 8, len(data))])
        cut = agreed(path)
        reported = cut.startswith(("cut short", "not audio")) if isinstance(cut, str) else False
        assert reported or (
            not isinstance(cut, str) and len(whole) - len(cut) <= EXACT * SAMPLE_RATE
        )
        path.write_bytes(data + data)
        twice = agreed(path)
        assert isinstance(twice, str) or len(twice) >= 2 * len(whole) - 2


@pytest.mark.parametrize("claimed", [1, 5_000, 16_000 * 3, 1 << 35, 0])
def test_a_flac_is_as_long_as_it_is(tmp_path: Path, claimed: int) -> None:
    signal, path = noise(2.5), tmp_path / "a.flac"
    path.write_bytes(with_total(encode(signal, 16_000, "FLAC"), claimed))
    outcome = agreed(path)
    if isinstance(outcome, str):
        assert claimed > len(signal)
        assert (
            outcome == f"cut short (2.5 s of the {claimed / 16_000:.1f} s that its header claims)"
        )
    else:
        assert claimed < len(signal)
        np.testing.assert_allclose(outcome, signal[:, 0], atol=2**-15)


@pytest.mark.parametrize("claimed", [0, 10_001, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
@pytest.mark.parametrize("leading_silence", [False, True])
def test_a_wav_that_was_streamed(tmp_path: Path, claimed: int, leading_silence: bool) -> None:
    signal, path = noise(2.5), tmp_path / "a.wav"
    if leading_silence:
        signal[1:16_500] = signal[17_500:33_000] = 0
    data = encode(signal, 16_000, "WAV", "FLOAT")
    path.write_bytes(
        with_data_size(data, claimed, riff=min(data.index(b"data") + claimed, 0xFFFFFFFF))
    )
    if claimed == 10_001:  # the RIFF ends there too: what is behind belongs to nobody
        assert len(load(path)) == 2_500
    else:
        np.testing.assert_array_equal(agreed(path), signal[:, 0])
        path.write_bytes(with_data_size(data, claimed, riff=len(data) - 8))
        np.testing.assert_array_equal(agreed(path), signal[:, 0])


def test_chunks_after_the_audio_of_a_wav_are_not_decoded(tmp_path: Path) -> None:
    signal, path = noise(0.5)[:7_999], tmp_path / "a.wav"
    data = encode(signal, 16_000, "WAV", "PCM_U8")  # of an odd size
    for behind in (b"", b"\0" * 1000, b"LIST\x04\0\0\0abcd", b"\0LIST\x04\0\0\0abcd", b"TAG" * 40):
        path.write_bytes(data + behind)
        assert len(agreed(path)) == 7_999


def test_a_wav_without_samples(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encode(noise(0), 16_000, "WAV", "PCM_16"))
    assert agreed(tmp_path / "a.wav") == "no samples between start and end"


@pytest.mark.parametrize(("rate", "options"), [
    (16_000, {"b": "32000"}), (44_100, {"b": "64000"}), (44_100, {"q": "4"}),
    (16_000, {"b": "64000", "abr": "1"}), (44_100, {"b": "64000", "abr": "1"}),
])  # fmt: skip
def test_an_mp3_without_a_tag(tmp_path: Path, rate: int, options: dict[str, str]) -> None:
    signal = noise(6, rate)
    signal[rate : 3 * rate] = 0  # so that the first frames tell little of the others
    options = {**options, "form_write_xing": "0"}
    path = encode_media(tmp_path / "a.mp3", signal, rate, "libmp3lame", **options)
    frame = 1152 if rate == 44_100 else 576
    samples = -(-(len(signal) + 1105) // frame) * frame  # with the delay of the encoder
    outcome = agreed(path)
    assert len(outcome) == pytest.approx(samples / rate * SAMPLE_RATE, abs=frame + 1)
    assert info(path).seconds is None
    data = path.read_bytes()
    path.write_bytes(data + b"TAG" + bytes(125))
    np.testing.assert_array_equal(agreed(path), outcome)
    path.write_bytes(b"ID3\x04\0\0\0\x05\0\0" + b"\xff\xfb\x90\x64" * 20_480 + data)  # a picture
    np.testing.assert_array_equal(agreed(path), outcome)
    path.write_bytes(b"garbage" * 99 + data)
    np.testing.assert_array_equal(agreed(path), outcome)
    path.write_bytes(data[:-50])
    assert str(agreed(path)).endswith("ending within a frame)")


def test_joined_mp3s_of_different_rates_and_channels(tmp_path: Path) -> None:
    parts = [encode(noise(s, r, c), r, "MP3") for s, r, c in ((1, 44_100, 2), (3, 16_000, 1))]
    path = tmp_path / "a.mp3"
    path.write_bytes(b"".join(parts))
    assert len(agreed(path)) == 4 * SAMPLE_RATE
    assert info(path).seconds is None
    assert len(load(path, 0.5, 2.0)) == 1.5 * SAMPLE_RATE
    assert len(load(path, 3.5, 9.0)) == 0.5 * SAMPLE_RATE


def test_chained_ogg_of_different_rates_and_codecs(tmp_path: Path) -> None:
    parts = [encode(noise(1, 44_100, 2), 44_100, "OGG", "VORBIS"),
             encode(noise(2, 48_000), 48_000, "OGG", "OPUS")]  # fmt: skip
    path = tmp_path / "a.ogg"
    path.write_bytes(b"".join(parts))
    assert len(agreed(path)) == 3 * SAMPLE_RATE


@pytest.mark.parametrize(("suffix", "codec", "form"), [
    ("aac", "aac", "adts"), ("m4a", "aac", None), ("m4a", "alac", None), ("webm", "libopus", None),
    ("mkv", "aac", None), ("wma", "wmav2", None), ("mp2", "mp2", None), ("wav", "libmp3lame", None),
    ("ts", "aac", "mpegts"), ("flv", "aac", None), ("tta", "tta", None), ("ac3", "ac3", None),
])  # fmt: skip
def test_media(tmp_path: Path, suffix: str, codec: str, form: str | None) -> None:
    path = encode_media(
        tmp_path / f"a.{suffix}", noise(2, 48_000, 2), 48_000, codec, form, b="64000"
    )
    heard, data = agreed(path), path.read_bytes()
    assert len(heard) / SAMPLE_RATE == pytest.approx(2.0, abs=0.06)
    path.write_bytes(data[: len(data) // 2 - 7])
    cut = agreed(path)
    # FFmpeg tells no length but that of what is there for these
    assert suffix in ("ts", "ac3", "wma") or str(cut).startswith("cut short (")


def test_two_m4a_one_behind_the_other(tmp_path: Path) -> None:
    path = encode_media(tmp_path / "a.m4a", noise(1, 48_000), 48_000, "aac")
    once = agreed(path)
    path.write_bytes(path.read_bytes() * 2)
    assert len(agreed(path)) == pytest.approx(2 * len(once), abs=1)


def test_aac_that_changes_its_channels(tmp_path: Path) -> None:
    paths = [
        encode_media(tmp_path / f"{rate}.aac", noise(1, rate, channels), rate, "aac", "adts")
        for rate, channels in ((48_000, 2), (16_000, 1))
    ]
    joined = tmp_path / "joined.aac"
    joined.write_bytes(b"".join(path.read_bytes() for path in paths))
    assert len(agreed(joined)) == pytest.approx(sum(len(load(p)) for p in paths), abs=2)
