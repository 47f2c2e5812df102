"""A clip in any form that people hold it in is the same clip; what is none is one sentence."""

import io
import subprocess
import sys
from collections import UserDict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from ser.corpus.audio import load
from ser.predict.clips import Segmentation, open_clip
from ser.predict.sources import is_clip, read_source

RATE = 16_000
RANDOM = np.random.default_rng(0)
WAVE = (RANDOM.standard_normal(8_000) * 0.1).astype(np.float32)
PCM = np.round(WAVE * 32_767).astype(np.int16)


def decoded(source):
    clip = open_clip(source, Segmentation())
    assert clip.error == ""
    [piece] = clip.pieces
    return piece.wave


def error(source):
    clip = open_clip(source, Segmentation())
    assert list(clip.pieces) == []
    return clip.error


def wav(samples, rate=RATE, subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2, 3, 9])
@pytest.mark.parametrize("dtype", ["i2", "i4", "u1", "f4", "f8"])
def test_an_array_is_its_wav_file_to_the_bit(tmp_path, dtype, channels, rate):
    signal = RANDOM.standard_normal((6_000, channels)) * 0.1
    if dtype[0] != "f":
        info = np.iinfo(dtype)
        signal = np.round(signal * info.max + (info.max + 1) // 2 * (dtype[0] == "u"))
    signal = signal.clip(0 if dtype[0] == "u" else None).astype(dtype)
    subtype = {"i2": "PCM_16", "i4": "PCM_32", "u1": "PCM_U8", "f4": "FLOAT", "f8": "DOUBLE"}[dtype]
    path = tmp_path / "a.wav"
    whole = signal if dtype != "u1" else ((signal.astype("i2") - 128) << 8).astype("i2")
    soundfile.write(path, whole, rate, subtype=subtype)
    expected = load(path)
    swapped = signal.astype(signal.dtype.newbyteorder(">"))
    for form in (signal, signal.T, swapped, np.asfortranarray(signal)):
        form.flags.writeable = False
        np.testing.assert_array_equal(decoded((form, rate)), expected)
    if channels == 1:
        np.testing.assert_array_equal(decoded((signal[:, 0], rate)), expected)


def test_every_form_of_a_file(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav(PCM).getvalue())
    data = path.read_bytes()
    expected = load(path)
    pipe = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
    with path.open("rb") as file, pipe:
        written = wav(PCM)  # and at its end, where the writer left it
        forms = (str(path), path, data, bytearray(data), memoryview(data), file, written)
        for source in (*forms, pipe.stdout):
            np.testing.assert_array_equal(decoded(source), expected)
        assert not file.closed
        assert read_source(file).name == str(path)
    assert read_source(data).name == ""


FLOATS = PCM / np.float32(32_768)
HELD = {
    "list": FLOATS.tolist(),
    "list of rows": [[x, x] for x in FLOATS.tolist()],
    "list of channels": [PCM, PCM],
    "torch": torch.from_numpy(PCM),
    "torchaudio": torch.from_numpy(FLOATS).repeat(2, 1),
    "with gradient": torch.from_numpy(FLOATS).requires_grad_(),
    "polars": pl.Series(PCM),
    "not contiguous": np.repeat(PCM, 2)[::2],
    "masked, nothing hidden": np.ma.masked_array(PCM),
    "long double": FLOATS.astype(np.longdouble),
    "unsigned": (PCM.astype("i4") + 32_768).astype("u2"),
    "32 bits": PCM.astype("i4") << 16,
    "64 bits": PCM.astype("i8") << 48,
}


@pytest.mark.parametrize("samples", HELD.values(), ids=HELD.keys())
def test_every_form_of_samples(samples):
    for source in (
        (samples, RATE),
        (RATE, samples),
        (samples, 16_000.0),
        (samples, np.int64(RATE)),
        (samples, torch.tensor(RATE)),
        {"array": samples, "sampling_rate": RATE, "path": None},
        UserDict(raw=samples, sampling_rate=RATE),
    ):
        assert is_clip(source)
        np.testing.assert_array_equal(decoded(source), FLOATS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    half = torch.from_numpy(FLOATS).to(dtype)
    np.testing.assert_array_equal(decoded((half, RATE)), half.float().numpy())
    if dtype == torch.float16:
        np.testing.assert_array_equal(decoded((half.numpy(), RATE)), half.float().numpy())


def test_torch_is_not_imported_for_it():
    code = """
import sys
import numpy as np
from ser.predict.sources import is_clip, read_source
assert is_clip((np.zeros(800), 16000)) and not read_source((np.ones(800), 16000)).error
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_channels_that_cancel_are_noted_in_a_file_and_in_samples(tmp_path):
    opposed = np.stack([FLOATS, -0.95 * FLOATS], 1)
    soundfile.write(tmp_path / "a.wav", opposed, RATE, subtype="FLOAT")
    for source in (
        tmp_path / "a.wav",
        (opposed, RATE),
        (opposed.T, RATE),
        (opposed[:, ::-1], RATE),
    ):
        clip = open_clip(source, Segmentation())
        assert len(list(clip.pieces)) == 1
        [note] = clip.notes()
        assert note.startswith("The 2 channels cancel each other when they are mixed (0.1% of ")
    clip = open_clip((np.stack([FLOATS, FLOATS]), RATE), Segmentation())
    assert len(list(clip.pieces)) == 1
    assert clip.notes() == []


def test_it_is_a_copy_from_the_moment_it_is_taken():
    buffer = FLOATS.copy()
    taken = read_source((buffer, RATE))
    buffer[:] = 0.5
    np.testing.assert_array_equal(decoded(taken), FLOATS)


MONO = "an array of shape (8000,) and float32"
RATES = "give the rate in Hz, 1000 to 768000, as (wave, 16000)."


@pytest.mark.parametrize(
    "rate",
    [np.nan, np.inf, -np.inf, 0, -16_000, 1, 10**9, 10**400, None, "16000", True, 1j, [16_000]],
)
def test_a_rate_that_is_none_is_reported_in_one_sentence(rate):
    shown = f"1{'0' * 58}…" if rate == 10**400 else repr(rate)
    assert is_clip((FLOATS, rate))
    assert error((FLOATS, rate)) == f"{MONO} at a rate of {shown}: {RATES}"


SHAPES = "give (samples,), (samples, channels) or (channels, samples)."


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.zeros((2, 2, 2)), f"an array of shape (2, 2, 2) and float64 at 16000 Hz: {SHAPES}"),
        (np.array(None), "real numbers"),
        (np.zeros((40, 8_000)), "neither axis can be the channels, at most 32"),
        (np.zeros((20, 20)), "either axis may be the channels"),
        (np.empty(0), "it is empty; give a clip of at least 25 ms."),
        (np.empty((0, 2)), "it is empty"),
        ([], "it is empty"),
        (FLOATS > 0, "(8000,) and bool at 16000 Hz: give real numbers"),
        (FLOATS * 1j, "complex64 at 16000 Hz: give real numbers"),
        (FLOATS.astype(object), "object at 16000 Hz: give real numbers"),
        (np.zeros(800, "M8[s]"), "give real numbers"),
        ([[0.1, 0.2], [0.3]], "samples that are not an array (setting an array element"),
        (np.ma.masked_array(FLOATS, FLOATS > 0), "an array with masked samples: fill them"),
        (torch.empty(800, device="meta"), "a tensor without plain samples"),
        (torch.ones(800).to_sparse(), "a tensor without plain samples"),
        (FLOATS[:100], "shorter than 25 ms"),
        (np.zeros(8_000), "silent (all samples are zero)"),
        (np.full(8_000, np.nan), "contains NaN or infinite samples"),
        (np.r_[FLOATS, np.inf], "contains NaN or infinite samples"),
        (np.full(8_000, 1e300), "contains NaN or infinite samples"),
    ],
)
def test_samples_that_cannot_be_used_are_reported_in_one_sentence(samples, expected):
    assert is_clip((samples, RATE))
    assert expected in error((samples, RATE))


def test_a_rate_of_thousands_of_digits_is_reported_in_one_sentence():
    assert error((FLOATS, 10**5000)) == f"{MONO} at a rate of a value of type int: {RATES}"


NO_RATE = "samples without their rate: give (samples, rate), as (wave, 16000)."
WANTED = (
    "give a path, the bytes of a file, an open binary file, or (samples, rate), as (wave, 16000)."
)


class Breaking(io.RawIOBase):
    """A stream that breaks off."""

    def read(self, size=-1):
        raise ConnectionResetError(104, "Connection reset by peer")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (FLOATS, NO_RATE),
        (FLOATS.tolist(), NO_RATE),
        (torch.from_numpy(FLOATS), NO_RATE),
        (None, f"None is not a clip: {WANTED}"),
        (5, f"5 is not a clip: {WANTED}"),
        (np.float64(0.5), "0.5"),
        (np.array(3), "is not a clip"),
        ({"path": "a.wav"}, "a mapping with the keys path: give 'array' and 'sampling_rate'"),
        (io.StringIO("RIFF"), "the file: reading it gives no bytes; open it as open(…, 'rb')."),
        (Breaking(), "the file: it cannot be read (Connection reset by peer)."),
        (b"", "empty file (0 bytes)"),
        (b"not audio", "not audio"),
        ("\0.wav", "no such file"),
        ("", "no such file"),
    ],
)
def test_what_is_no_clip_is_reported_in_one_sentence(source, expected):
    assert is_clip(source)
    assert expected in error(source)


def test_a_closed_file_is_reported_in_one_sentence(tmp_path):
    file = (tmp_path / "a.wav").open("wb+")
    file.close()
    assert error(file) == f"{tmp_path / 'a.wav'}: it cannot be read (I/O operation on closed file)."


@pytest.mark.parametrize(
    "clips",
    [
        ["a.wav", "b.wav"],
        ("a.wav", "b.wav"),
        [(FLOATS, RATE), (FLOATS, RATE)],
        ((FLOATS, RATE), (RATE, FLOATS)),
        [FLOATS, FLOATS],
        [],
        iter(["a.wav"]),
        {"a.wav"},
        np.array(["a.wav", "b.wav"]),
        np.array([Path("a.wav")], object),
        pl.Series(["a.wav", "b.wav"]),
    ],
)
def test_collections_of_clips_are_none(clips):
    assert not is_clip(clips)
