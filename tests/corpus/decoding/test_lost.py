"""Frames and pages that decoders pass over without a word, and lengths that are not there."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from ser.corpus.audio import load
from ser.corpus.decoding import ogg
from ser.corpus.decoding.file import Bytes
from ser.corpus.errors import AudioError
from tests.corpus.decoding.factories import encode, encode_media, noise


def pages(data: bytes) -> list[bytes]:
    return [b"OggS" + page for page in data.split(b"OggS")[1:]]


def lost(data: bytes, name: str = "") -> str:
    file = io.BytesIO(data)
    file.name = name
    with pytest.raises(AudioError) as error:
        load(file)
    return str(error.value)


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_a_flipped_bit_of_any_ogg_page_is_detected(codec: str) -> None:
    whole = encode(noise(3.0, 48_000), 48_000, "OGG", codec)
    assert len(load(io.BytesIO(whole))) == 48_000
    starts = [0, *np.cumsum([len(page) for page in pages(whole)])[:-1]]
    assert len(starts) > 4
    for start, page in zip(starts, pages(whole), strict=True):
        for offset in (0, 6, 18, 22, 27 + page[26], len(page) - 1)[
            not start :
        ]:  # by which it is Ogg
            flipped = bytearray(whole)
            flipped[start + offset] ^= 4
            assert lost(bytes(flipped)).startswith("damaged (bytes are wrong or missing")


def test_a_missing_ogg_page_is_detected_and_the_audio_before_it_is_read() -> None:
    whole = encode(noise(3.0, 48_000), 48_000, "OGG", "VORBIS")
    inner = pages(whole)
    middle = len(inner) - 2
    data = b"".join([*inner[:middle], *inner[middle + 1 :]])
    assert lost(data).startswith("damaged (bytes are wrong or missing after ")
    same = load(io.BytesIO(data), 0.0, 0.2)
    np.testing.assert_array_equal(same, load(io.BytesIO(whole), 0.0, 0.2))


def test_a_broadcast_of_ogg_that_was_joined_late_is_whole() -> None:
    inner = pages(encode(noise(3.0, 48_000), 48_000, "OGG", "VORBIS"))
    header = sum(not any(page[6:14]) for page in inner)
    [part] = ogg.parts(Bytes(io.BytesIO(b"".join([*inner[:header], *inner[header + 1 :]]))), 0)
    assert not part.damaged
    assert not part.cut


@pytest.mark.parametrize(("suffix", "codec"), [("mp2", "mp2"), ("mp3", "mp3")])
def test_overwritten_mpeg_frames_are_detected(tmp_path: Path, suffix: str, codec: str) -> None:
    if codec == "mp3":
        whole = encode(noise(3.0), 16_000, "MP3")
    else:
        path = tmp_path / "a.mp2"
        whole = encode_media(path, noise(3.0, 44_100), 44_100, codec).read_bytes()
    load(io.BytesIO(whole))
    heads = [at for at in range(len(whole)) if whole[at : at + 2] == whole[:2]]
    at = heads[len(heads) // 2]
    broken = whole[: at - 8] + bytes(40) + whole[at + 32 :]
    assert lost(broken, f"a.{suffix}").startswith("damaged (bytes are wrong or missing after")
    seam = whole + bytes(400) + whole  # whole recordings, with padding between them
    assert len(load(io.BytesIO(seam))) > 1.9 * len(load(io.BytesIO(whole)))


def test_an_unknown_codec_is_reported() -> None:
    pytest.importorskip("av")
    wav = encode(noise(0.5), 16_000, "WAV")
    at = wav.index(b"fmt ") + 8
    for offset, value in ((0, 0x9999), (14, 0)):
        changed = bytearray(wav)
        struct.pack_into("<H", changed, at + offset, value)
        assert lost(bytes(changed)) == "not audio that can be decoded (its codec is unknown)"


def test_samples_of_64_bits_are_read() -> None:
    pytest.importorskip("av")
    signal = noise(0.5, channels=2)
    body = np.round(signal.astype(np.float64) * 2.0**62).astype("<i8").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", len(body) + 36, b"WAVE", b"fmt ", 16, 1, 2,
                       16_000, 256_000, 16, 64)  # fmt: skip
    wave = load(io.BytesIO(head + struct.pack("<4sI", b"data", len(body)) + body))
    np.testing.assert_allclose(wave, signal.mean(axis=1) / 2, atol=1e-7)


@pytest.mark.parametrize("gains", [(1, -1), (1, -0.5, -0.5)])
def test_opposed_channels_are_not_called_silent(gains: tuple[float, ...]) -> None:
    signal = noise(0.5) * np.array(gains, np.float32)
    assert lost(encode(signal, 16_000, "WAV", "FLOAT")) == (
        f"channels cancel (the {len(gains)} channels are silent when they are mixed; "
        "use one channel only)"
    )
