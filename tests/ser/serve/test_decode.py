"""A job of the process that decodes: limits, refusals, and the samples of `ser predict`."""

import json
import struct

import numpy as np
import pytest
import soundfile

from ser.corpus import audio
from ser.predict.clips import Segmentation, open_clip
from ser.serve.decode import ENVELOPE, WAV, Job, Reply, decode
from tests.ser.serve.conftest import flac_bomb


def decoded(path, max_seconds=600):
    return decode(Job(str(path), str(path.parent), max_seconds, 60))


def test_channels_that_cancel_are_noted_as_the_wav_has_but_one(tmp_path):
    wave = (np.random.default_rng(0).standard_normal(16_000) * 0.1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([wave, -0.9 * wave], 1), 16_000, subtype="FLOAT")
    [note] = decoded(tmp_path / "a.wav").notes
    clip = open_clip(tmp_path / "a.wav", Segmentation())
    assert len(list(clip.pieces)) == 1
    assert clip.notes() == [note]
    soundfile.write(tmp_path / "a.wav", np.stack([wave, wave], 1), 16_000, subtype="FLOAT")
    assert decoded(tmp_path / "a.wav").notes == []


def test_seconds_and_the_lowest_and_highest_of_every_20_ms(tmp_path):
    wave = np.zeros(48_100, np.float32)
    wave[:320], wave[5], wave[47_999] = 0.25, -0.5, 0.125
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    assert decoded(tmp_path / "a.wav") == Reply(48_100 / 16_000)
    envelope = np.load(tmp_path / ENVELOPE)
    assert envelope.shape == (151, 2)  # the last is of 100 samples
    assert envelope[0].tolist() == [-0.5, 0.25]
    assert envelope[149].tolist() == [0, 0.125]
    assert not envelope[1:149].any()


@pytest.mark.parametrize("seconds", [0.5, 30.0, 30.001])
@pytest.mark.parametrize(
    ("rate", "channels", "form"),
    [(16_000, 1, "wav"), (44_100, 2, "flac"), (22_050, 1, "ogg")],
)
def test_the_wav_has_the_samples_that_ser_predict_decodes(tmp_path, seconds, rate, channels, form):
    signal = np.random.default_rng(0).normal(0, 0.3, (round(seconds * rate), channels))
    soundfile.write(tmp_path / f"a.{form}", signal, rate)
    reply = decoded(tmp_path / f"a.{form}")
    assert reply.status == 200
    wanted, got = (
        open_clip(tmp_path / name, Segmentation(cut="windows")) for name in (f"a.{form}", WAV)
    )
    pairs = list(zip(wanted.pieces, got.pieces, strict=True))
    assert pairs
    for one, other in pairs:
        assert (one.start, one.end) == (other.start, other.end)
        np.testing.assert_array_equal(one.wave, other.wave)
    assert wanted.notes() == got.notes()


@pytest.mark.parametrize(("says", "decoded_seconds"), [(None, 0), (0, 601)])
def test_a_flac_that_unpacks_to_half_an_hour_is_decoded_no_further_than_the_limit(
    tmp_path, monkeypatch, says, decoded_seconds
):
    seconds, own = [], audio.blocks

    def counted(*given, **options):
        for block in own(*given, **options):
            seconds.append(len(block) / 16_000)
            yield block

    monkeypatch.setattr(audio, "blocks", counted)
    path = flac_bomb(tmp_path / "bomb.flac", 1800, says)
    assert path.stat().st_size < 50_000
    too_long = "the audio is longer than 600 s; send a shorter piece."
    assert decoded(path) == Reply(status=413, error=too_long)
    assert sum(seconds) == decoded_seconds


def test_a_flac_whose_header_claims_less_is_refused_for_its_real_length(tmp_path):
    reply = decoded(flac_bomb(tmp_path / "bomb.flac", 1800, 2))
    assert reply == Reply(status=413, error="the audio is longer than 600 s; send a shorter piece.")


@pytest.mark.parametrize("says", [None, 0])
def test_rate_and_channels_count_as_seconds_do(tmp_path, says):
    path = tmp_path / "dense.flac"
    soundfile.write(path, np.ones((2 * 655_350, 8), np.int16), 655_350)
    if says is not None:
        data = bytearray(path.read_bytes())
        data[18:26] = struct.pack(">Q", struct.unpack(">Q", data[18:26])[0] >> 36 << 36)
        path.write_bytes(data)
    assert decoded(path, 600).status == 200  # which may have 22 s
    assert decoded(path, 10) == Reply(
        status=413,
        error="the audio is longer than 0.37 s, which is the limit for 8 channels at 655350 Hz; "
        "send a shorter piece, or one channel at 16000 Hz.",
    )


def write_mka(path, seconds):
    av = pytest.importorskip("av")
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="matroska") as file:
        stream = file.add_stream("mp2", rate=16_000)
        noise = rng.normal(0, 3000, (1, 16_000 * seconds)).astype("i2")
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        frame.sample_rate = 16_000
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def test_what_ffmpeg_reads_is_counted_while_it_is_decoded(tmp_path):
    path = write_mka(tmp_path / "a.mka", 12)
    assert decoded(path).seconds == pytest.approx(12, abs=0.1)
    assert decoded(path, 6).error == "the audio is longer than 6 s; send a shorter piece."


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.mka\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{folder}/secret.mka\n#EXT-X-ENDLIST\n",
        "only text",
    ],
)
def test_a_list_of_files_opens_none_of_them(tmp_path, text):
    write_mka(tmp_path / "secret.mka", 1)
    (tmp_path / "clip").write_text(text.format(folder=tmp_path))
    reply = decoded(tmp_path / "clip")
    assert reply == Reply(status=422, error="not audio (Format not recognised)")


def test_a_rate_that_no_microphone_has_is_not_audio(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = struct.pack("<I", 2_000_000_000)
    (tmp_path / "a.wav").write_bytes(data)
    error = "not audio (2000000000 Hz and 1 channels)"
    assert decoded(tmp_path / "a.wav") == Reply(status=422, error=error)


def test_whatever_a_decoder_raises_is_a_reply(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.ones(8000), 8000)
    for error, status in ((MemoryError(), 413), (ZeroDivisionError("odd"), 422)):

        def broken(*_, error=error, **options):
            raise error

        monkeypatch.setattr(audio, "blocks", broken)
        reply = decoded(tmp_path / "a.wav")
        assert reply.status == status
        assert ("odd" in reply.log) == (status == 422)
        assert "\n" not in json.dumps(reply.__dict__)
