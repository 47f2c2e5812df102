"""Recordings that libsndfile reads: wav, flac, mp3, ogg and their like.

They are read block by block to their end, never by the length that a header claims, which is
compared afterwards. soundfile seeks after every read of a seekable file, which fails for a FLAC of
unknown length and resets the decoder of an MP3; so the files are declared not seekable.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import soundfile

from ser.corpus.decoding.file import Block, Bytes, Part, not_read, part_of, require_possible
from ser.corpus.decoding.survey import next_flac
from ser.corpus.errors import AudioError

AT_ONCE = 1 << 18  # samples of all channels that are decoded at a time
CUT_SHORT = 0.1  # s by which a file may be shorter than its header claims
BEYOND = 1 << 13  # frames that are read at a time after the claimed end
UNKNOWN = 1 << 62  # frames; libsndfile gives 2^63 - 1 where a header claims no length
# their size in bytes gives their length, and seeking in them is exact
CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")
CODES = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
ALIGNED = 8  # frames of an MP3; from a multiple of them its decoder rounds as from the start


class _Serial(soundfile.SoundFile):  # type: ignore[misc]
    """A file-like object, of which libsndfile needs read, seek and tell alone."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)

    def seekable(self) -> bool:
        """Return False, so that reading does not seek."""
        return False


class Recording:
    """A part of a file, opened by libsndfile.

    Raises `SoundFileError` for what is not its own, `AudioError` for an impossible rate.
    """

    def __init__(self, data: Bytes, file: BinaryIO, part: Part) -> None:
        self._data, self._bytes, self._part = data, file, part
        self._window = part_of(file, part)
        self._file = _Serial(self._window)
        self.rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        self.next: Part | None = None  # the part after this one, if found only at its end
        try:
            require_possible(self.rate, self.channels)
        except AudioError:
            self.close()
            raise

    def close(self) -> None:
        """Close the decoder."""
        self._file.close()

    @property
    def seconds(self) -> float | None:
        """Return the length that the header claims."""
        ogg = self._file.format == "OGG"
        frames = self._file.frames if ogg else self._claimed()
        return None if frames is None else float(frames / self.rate)

    @property
    def exact(self) -> bool:
        """Return whether the length is known without decoding: PCM that was not cut."""
        return self._seeks_exactly() and self._part.present == 1 and not self._part.cut

    def blocks(self) -> Iterator[Block]:
        """Yield the samples to the end; raises `AudioError` for what is cut short or damaged."""
        read, claimed = 0, self._claimed()
        step = min(self.rate, AT_ONCE // self.channels)
        while True:
            count = step
            if claimed is not None:
                count = min(step, claimed - read) if read < claimed else BEYOND
            try:
                signal = self._read(self._file, count)
            except soundfile.SoundFileError as error:
                if not self._over(read):
                    raise self._broken(error, read) from error
                break
            if not len(signal):
                break
            read += len(signal)
            yield self.rate, signal
        self._require_whole(read)

    def span(self, first: int, last: int | None) -> Iterator[Block] | None:
        """Return the blocks from one sample to another by seeking; None where that is not exact.

        An MP3 is exact to 1e-7 of full scale.
        """
        free, part = self._seeks_exactly(), replace(self._part, edits=(), endless=False)
        if first <= 0 or (last is None and not free):
            return None
        file = _Serial(part_of(self._bytes, part)) if self._part.altered else self._file
        begin, end = first, file.frames if last is None else last
        if part.mpeg:
            size = ALIGNED * (1152 if self.rate >= 32_000 else 576)
            begin = max(0, (first // size - 2) * size)
        if (
            (end > file.frames and not free)
            or file.frames >= UNKNOWN
            or not 0 < begin < file.frames
        ):
            return None
        try:
            file.seek(begin)
        except (soundfile.SoundFileError, RuntimeError):
            self._file = _Serial(part_of(self._bytes, self._part))
            return None
        return self._span(file, begin, first, min(end, file.frames), last)

    def _span(
        self, file: object, position: int, first: int, end: int, last: int | None
    ) -> Iterator[Block]:
        step = min(self.rate, AT_ONCE // self.channels)
        while position < end:
            try:
                signal = self._read(file, min(step, end - position))
            except soundfile.SoundFileError as error:
                raise self._broken(error, position) from error
            if not len(signal):
                break
            yield self.rate, signal[max(0, first - position) :]
            position += len(signal)
        if position < end or last is None or last > end:
            self._require_whole(position)

    def _read(self, file: Any, frames: int) -> np.ndarray:
        signal: np.ndarray = file.read(frames, dtype="float32", always_2d=True)
        if self._window.error is not None:
            raise not_read(self._window.error)
        return signal

    def _claimed(self) -> int | None:
        part = self._part
        if part.flac or (part.mpeg and not part.frames):
            return part.frames
        if self._file.format == "OGG" or self._file.frames >= UNKNOWN:
            return None  # for Ogg it is that of the last page
        return round(self._file.frames / part.present) if part.present else 0

    def _over(self, read: int) -> bool:
        """Return whether a decoding error is past the recording: a tag, or another recording."""
        part = self._part
        if not part.flac:
            return False
        self.next = next_flac(self._data, part, self._window.furthest)
        return bool(part.frames and read >= part.frames) or bool(self.next and not part.frames)

    def _broken(self, error: soundfile.SoundFileError, read: int) -> AudioError:
        if self._window.furthest >= self._part.end - self._part.start and not self._part.mpeg:
            return self._cut_short(read)
        return AudioError("damaged", f"{reason(error)}, after {read / self.rate:.1f} s")

    def _require_whole(self, read: int) -> None:
        claimed = self._claimed()
        if self._part.damaged:
            raise broken_after(read / self.rate)
        if self._part.present == 0 and read == 0:
            raise AudioError("cut short", "nothing follows its header")
        if self._part.cut or (claimed and read < claimed - CUT_SHORT * self.rate):
            raise self._cut_short(read)

    def _cut_short(self, read: int) -> AudioError:
        claimed, seconds = self._claimed(), f"{read / self.rate:.1f} s"
        if claimed and claimed > read:
            detail = f"{seconds} of the {claimed / self.rate:.1f} s that its header claims"
            return AudioError("cut short", detail)
        return AudioError("cut short", f"{seconds}, ending within a frame")

    def _seeks_exactly(self) -> bool:
        form, code = self._file.format, self._file.subtype
        return form in CONTAINERS and code.startswith(CODES) and not self._part.mpeg


def not_audio(error: Exception) -> AudioError:
    """Return the error for a file that no decoder opens."""
    return AudioError("not audio", reason(error))


def broken_after(seconds: float) -> AudioError:
    """Return the error for a part that ends where its file is broken."""
    return AudioError("damaged", f"bytes are wrong or missing after {seconds:.1f} s")


def reason(error: Exception) -> str:
    """Return libsndfile's message."""
    text = str(getattr(error, "error_string", None) or error)
    if text.startswith("File does not exist"):  # it does: no decoder takes it
        return "Format not recognised"
    return text.strip().removeprefix("Error : ").rstrip(".")
