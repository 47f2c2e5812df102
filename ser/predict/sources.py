"""The forms that a clip may be given in.

    "clip.wav", Path("clip.wav")              a file
    b"RIFF…", open("clip.wav", "rb"), stream  the bytes of a file; an object that can seek is read
                                              from its start; none is closed
    (samples, rate), (rate, samples)          as soundfile, librosa and torchaudio, or as scipy and
                                              Gradio give it
    {"array": samples, "sampling_rate": rate} as Hugging Face datasets give it

Samples are a numpy array, a torch tensor, a list of numbers, or anything that numpy makes an array
of. Floats are at full scale 1, integers at that of their type, unsigned ones centred. Of two axes
the shorter one is the channels, at most 32, which are averaged.

Everything is copied at once, in the caller's thread: buffers may be filled again, and files read
further, while results are awaited.
"""

import contextlib
import io
import math
import numbers
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np

from ser.corpus.audio import ChannelPower
from ser.corpus.decoding.file import CHANNELS, RATES
from ser.corpus.errors import UserError

RATE_KEYS, SAMPLE_KEYS = ("sampling_rate", "sample_rate", "rate"), ("array", "raw", "samples")
IN_MEMORY = 8 << 20  # bytes of an open file; a larger one is copied to disk
NUMERIC, REAL = ("b", "c", "f", "i", "u"), ("f", "i", "u")  # kinds of numpy's types
TEXT = (str, bytes, os.PathLike)
NO_RATE = "samples without their rate: give (samples, rate), as (wave, 16000)."
WANTED = (
    "give a path, the bytes of a file, an open binary file, or (samples, rate), as (wave, 16000)."
)


@dataclass(frozen=True)
class ClipInput:
    """A clip as it was given: a file to decode, or samples; or why it is neither.

    `name` is its path in results, "" without one. `wave` is mono float32 `(samples,)` at `rate`.
    `error` is a sentence.
    """

    name: str = ""
    file: Path | BinaryIO | None = None
    wave: np.ndarray | None = None
    rate: int = 0
    channels: ChannelPower = field(default_factory=ChannelPower)  # of samples
    error: str = ""


Source = (  # one clip; samples are of too many libraries to name their types
    ClipInput
    | str
    | os.PathLike[str]
    | bytes
    | IO[bytes]
    | tuple[object, object]
    | Mapping[str, object]
)


def is_clip(value: Any) -> bool:
    """Return whether a value is one clip, right or wrong, and not a collection of clips.

    A pair of samples and anything is a clip, and so are samples without a rate, whose error is the
    missing rate. A list of numbers is samples; another list is a list of clips. An array of text is
    a collection of paths.
    """
    if isinstance(value, str | os.PathLike | bytes | bytearray | memoryview | Mapping):
        return True
    if hasattr(value, "read") or _is_array(value):
        return True
    if isinstance(value, tuple) and len(value) == 2 and _pair(value) is not None:
        return True
    try:
        iter(value)
    except TypeError:
        return True
    return False


def read_source(value: object) -> ClipInput:
    """Read a clip in any of the forms; `error` of the result says what is wrong with it."""
    if isinstance(value, ClipInput):
        return value
    try:
        if isinstance(value, str | os.PathLike):
            name = os.fsdecode(os.fspath(value))
            # Path("") is the current folder
            return ClipInput(name, Path(name)) if name else ClipInput(error="no such file")
        if isinstance(value, bytes | bytearray | memoryview):
            return ClipInput(file=io.BytesIO(value))
        if hasattr(value, "read"):
            return _read(value)
        wave, rate, channels = wave_of(*_samples_and_rate(value))
    except UserError as error:
        return ClipInput(error=str(error))
    return ClipInput(wave=wave, rate=rate, channels=channels)


def wave_of(samples: object, rate: object) -> tuple[np.ndarray, int, ChannelPower]:
    """Return float32 `(samples,)`, mono, a copy, the rate in Hz, and the power of the channels.

    Raises `UserError`.
    """
    signal = _as_array(samples)
    kind = f"an array of shape {signal.shape} and {signal.dtype}"
    hertz = _checked_rate(rate, kind)
    what = f"{kind} at {hertz} Hz"
    if signal.dtype.kind not in REAL:
        raise UserError(f"{what}: give real numbers, floats at full scale 1 or integers.")
    if signal.ndim not in (1, 2):
        raise UserError(f"{what}: give (samples,), (samples, channels) or (channels, samples).")
    if not signal.size:
        raise UserError(f"{what}: it is empty; give a clip of at least 25 ms.")
    if signal.ndim == 2:
        signal = _channels_last(signal, what)
    wave = _full_scale(signal).reshape(len(signal), -1)
    channels = ChannelPower()
    channels.add(wave)
    mono = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1)
    return np.ascontiguousarray(mono), hertz, channels


def _full_scale(signal: np.ndarray) -> np.ndarray:
    """Return contiguous float32 at full scale 1, as a file of these samples would be decoded."""
    with np.errstate(over="ignore"):  # too large a value becomes infinite, which is refused
        wave = np.array(signal, np.float32, order="C")
    if signal.dtype.kind == "f":
        return wave
    half = 2.0 ** (8 * signal.dtype.itemsize - 1)
    if signal.dtype.kind == "u":
        middle = signal.dtype.type(half)
        signed = (signal ^ middle).view(f"i{signal.dtype.itemsize}")  # the highest bit is the sign
        wave = np.array(signed, np.float32, order="C")
    return wave / np.float32(half)


def _channels_last(signal: np.ndarray, what: str) -> np.ndarray:
    first, second = signal.shape
    if first == second > 1:
        raise UserError(
            f"{what}: either axis may be the channels; give (samples, channels) with more samples "
            "than channels, or one channel."
        )
    if min(first, second) > CHANNELS:
        raise UserError(f"{what}: neither axis can be the channels, at most {CHANNELS}.")
    return signal if second < first or first == second else signal.T


def _checked_rate(rate: object, kind: str) -> int:
    """Return the rate in whole Hz; raises `UserError`."""
    hertz = math.nan
    if _is_number(rate):
        with contextlib.suppress(OverflowError):
            hertz = float(_as_array(rate))
    if not RATES[0] <= hertz <= RATES[1]:
        raise UserError(
            f"{kind} at a rate of {_shown(rate)}: give the rate in Hz, {RATES[0]} to {RATES[1]}, "
            "as (wave, 16000)."
        )
    return round(hertz)


def _samples_and_rate(value: object) -> tuple[object, object]:
    """Return samples and rate of a pair in either order, or of a mapping."""
    if isinstance(value, Mapping):
        samples = [value[key] for key in SAMPLE_KEYS if value.get(key) is not None]
        rates = [value[key] for key in RATE_KEYS if key in value]
        if not samples or not rates:
            raise UserError(
                f"a mapping with the keys {', '.join(map(str, value)) or '(none)'}: give 'array' "
                "and 'sampling_rate', or (samples, rate)."
            )
        return samples[0], rates[0]
    if _is_array(value):
        raise UserError(NO_RATE)
    if isinstance(value, tuple) and len(value) == 2 and (pair := _pair(value)) is not None:
        return pair
    raise UserError(f"{_shown(value)} is not a clip: {WANTED}")


def _pair(value: tuple[object, object]) -> tuple[object, object] | None:
    """Return samples and the other value, which should be their rate; None without samples."""
    first, second = value
    if _is_number(first) and (_is_array(second) or isinstance(second, list | tuple)):
        return second, first
    if _is_array(first) or (_is_number(second) and isinstance(first, list | tuple)):
        return first, second
    return None


def _is_array(value: Any) -> bool:
    """Return whether a value is samples: an array that holds no text, or a list of numbers."""
    if hasattr(value, "__array__"):
        if getattr(value, "ndim", 1) == 0:
            return not _is_number(value)
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        return kind in NUMERIC or not isinstance(next(iter(value), None), TEXT)
    if isinstance(value, list | tuple) and value:
        return all(map(_is_number, value)) or all(
            isinstance(row, list | tuple) and row and all(map(_is_number, row)) for row in value
        )
    return False


def _is_number(value: object) -> bool:
    """Return whether a value is one real number, of Python, numpy or torch."""
    if isinstance(value, bool | np.bool):
        return False
    if isinstance(value, numbers.Real):
        return True
    if not hasattr(value, "__array__") or getattr(value, "ndim", 1) != 0:
        return False
    return _as_array(value).dtype.kind in REAL


def _as_array(samples: object) -> np.ndarray:
    """Return samples as an array; raises `UserError` where they are none."""
    if isinstance(samples, np.ma.MaskedArray) and np.ma.is_masked(samples):
        raise UserError("an array with masked samples: fill them, as with samples.filled(0).")
    try:
        return np.asarray(_from_torch(samples))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120].rstrip(".")
        raise UserError(f"samples that are not an array ({reason}): {WANTED}") from error


def _from_torch(value: Any) -> object:
    """Return a torch tensor as a numpy array, anything else as it is; never imports torch."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    try:
        value = value.detach().cpu()
        wide = value.is_floating_point() and value.dtype not in (torch.float32, torch.float64)
        return (value.float() if wide else value).numpy()
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120].rstrip(".")
        raise UserError(f"a tensor without plain samples ({reason}): {WANTED}") from error


def _read(file: object) -> ClipInput:
    """Copy an open file, from its start where it can seek."""
    name = getattr(file, "name", "")
    name = name if isinstance(name, str) else ""
    copy = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
    for part in _parts(file, name or "the file"):
        copy.write(part)
    return ClipInput(name, cast("BinaryIO", copy))


def _parts(file: Any, what: str) -> Iterator[bytes]:
    """Yield the bytes of any file-like object; raises `UserError`."""
    try:
        if getattr(file, "seekable", bool)():
            file.seek(0)
        while part := file.read(1 << 20):
            yield bytes(memoryview(part))
    except TypeError as error:
        raise UserError(f"{what}: reading it gives no bytes; open it as open(…, 'rb').") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{what}: it cannot be read ({' '.join(reason.split())[:120]}).") from error


def _shown(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:59]}…"
