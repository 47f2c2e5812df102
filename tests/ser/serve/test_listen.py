"""What is no audio, or too much of it, is known before any model hears it."""

import struct
import time

import numpy as np
import pytest
import soundfile

from corpus.audio import AudioError
from ser.serve.limits import Refused
from ser.serve.listen import listen
from tests.ser.serve.conftest import flac_bomb


def test_seconds_and_the_lowest_and_highest_of_every_20_ms(tmp_path):
    wave = np.zeros(48_100, np.float32)
    wave[:320], wave[5], wave[47_999] = 0.25, -0.5, 0.125
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    heard = listen(tmp_path / "a.wav", 600)
    assert heard.seconds == 48_100 / 16_000
    assert heard.envelope.shape == (151, 2)  # the last is of 100 samples
    assert heard.envelope[0].tolist() == [-0.5, 0.25]
    assert heard.envelope[149].tolist() == [0, 0.125]
    assert not heard.envelope[1:149].any()


@pytest.mark.parametrize("says", [None, 0])
def test_a_flac_that_unpacks_to_half_an_hour_is_refused_at_once(tmp_path, says):
    path = flac_bomb(tmp_path / "bomb.flac", 1800, says)
    assert path.stat().st_size < 50_000
    begun = time.perf_counter()
    with pytest.raises(Refused) as refused:
        listen(path, 600)
    assert refused.value.status_code == 413
    assert refused.value.detail == "the audio is longer than 600 s; send a shorter piece."
    assert time.perf_counter() - begun < 1


def test_a_flac_whose_header_says_less_is_heard_as_far_as_it_says(tmp_path):
    assert listen(flac_bomb(tmp_path / "bomb.flac", 1800, 2), 600).seconds == 2


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
    assert listen(path, 600).seconds == pytest.approx(12, abs=0.1)
    with pytest.raises(Refused, match="longer than 6 s"):
        listen(path, 6)


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
    with pytest.raises(AudioError, match=r"^not audio \(Format not recognised\)$"):
        listen(tmp_path / "clip", 600)


def test_a_rate_that_no_microphone_has_is_no_audio(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = struct.pack("<I", 2_000_000_000)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(AudioError) as error:
        listen(tmp_path / "a.wav", 600)
    assert str(error.value) == "not audio (2000000000 Hz and 1 channels)"
