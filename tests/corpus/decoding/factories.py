"""Audio files as bytes, and the ways in which their headers may be wrong."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile


def noise(seconds: float, rate: int = 16_000, channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (round(seconds * rate), channels)
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def encode(signal: np.ndarray, rate: int, form: str, subtype: str | None = None) -> bytes:
    """Write a file of libsndfile's."""
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=form, subtype=subtype)
    return file.getvalue()


def encode_media(
    path: Path, signal: np.ndarray, rate: int, codec: str, form: str | None = None, **options: str
) -> Path:
    """Write a file of FFmpeg's, by PyAV; options of the form begin with `form_`."""
    av = pytest.importorskip("av")
    layout = "mono" if signal.shape[1] == 1 else "stereo"
    forms = {k.removeprefix("form_"): options.pop(k) for k in list(options) if k[:5] == "form_"}
    with av.open(path, "w", format=form, options=forms) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout, options=options)
        sample = stream.codec_context.codec.audio_formats[0].name
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(signal.T), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        for part in av.AudioResampler(format=sample, layout=layout, rate=rate).resample(frame):
            for packet in [*stream.encode(part), *stream.encode(None)]:
                file.mux(packet)
    return path


def with_total(flac: bytes, total: int) -> bytes:
    """Return a FLAC whose STREAMINFO states so many samples, 0 for unknown."""
    field = int.from_bytes(flac[18:26], "big") >> 36 << 36 | total
    return flac[:18] + field.to_bytes(8, "big") + flac[26:]


def with_data_size(wav: bytes, size: int, riff: int | None = None) -> bytes:
    """Return a WAV whose data chunk, and whose RIFF if given, states another size."""
    at = wav.index(b"data") + 4
    head = wav[:4] + struct.pack("<I", riff) + wav[8:] if riff is not None else wav
    return head[:at] + struct.pack("<I", size) + head[at + 4 :]
