"""The bytes of an audio file: opened safely, and given to a decoder part by part, within limits.

Only regular files are opened, so no pipe or device can block. A file of up to 8 MiB is read into
memory, where reading errors are seen at once; a larger one is read as it is decoded.
"""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ser.corpus.errors import AudioError

IN_MEMORY = 8 << 20  # bytes
CHUNK = 1 << 18  # bytes that `Bytes` reads at a time
PRETENDED = 64  # times its size that an endless part claims to have
TAIL = 4096  # bytes behind its pretended end are zeros

RATES = (1_000, 768_000)  # Hz; a second is read at a time, so a rate of gigahertz is a bomb
CHANNELS = 32

Source = str | Path | BinaryIO
Block = tuple[int, np.ndarray]  # rate in Hz, float32 `(samples, channels)`


@dataclass(frozen=True)
class Part:
    """One recording within a file, as a decoder is given it.

    `start`, `end`: its bytes. `edits`: bytes that replace those at an offset within the part, where
    the length in its header is wrong. `frames`: samples a channel that its header claims, None
    where it claims none. `present`: the share of the claimed bytes that the file has. `cut`: it
    ends within a frame or a page. `damaged`: it ends where the file is broken, and the rest is not
    decoded. `mpeg`: MPEG audio; `endless`: its length is unknown, see `Window`.
    """

    start: int
    end: int
    edits: tuple[tuple[int, bytes], ...] = ()
    frames: int | None = None
    present: float = 1.0
    cut: bool = False
    damaged: bool = False
    flac: bool = False
    mpeg: bool = False
    endless: bool = False

    @property
    def altered(self) -> bool:
        """Return whether the decoder is given a length other than the one in the file."""
        return self.endless or bool(self.edits)


def require_possible(rate: int, channels: int) -> None:
    """Raise `AudioError` for a rate or channels that no recording has."""
    if not (RATES[0] <= rate <= RATES[1] and 0 < channels <= CHANNELS):
        raise AudioError("not audio", f"{rate} Hz and {channels} channels")


def open_file(source: Source) -> BinaryIO:
    """Open a regular file for reading, or take a seekable binary file object as it is.

    Raises `AudioError` for what is not a regular file, is empty or cannot be read.
    """
    if not isinstance(source, str | Path):
        file = source if source.seekable() else io.BytesIO(source.read())
    else:
        try:
            if source == "":  # Path("") is the current folder
                raise AudioError("no such file")
            file = _open(Path(source))
        except (OSError, ValueError) as error:
            raise not_read(error) from error
    if length(file) == 0:
        file.close()
        raise AudioError("empty file", "0 bytes")
    return file


def length(file: BinaryIO) -> int:
    """Return the bytes of a file."""
    return file.seek(0, os.SEEK_END)


def _open(path: Path) -> BinaryIO:
    _require_regular(path.stat().st_mode)  # before it is opened: opening a device may act on it
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    file = open(descriptor, "rb", buffering=CHUNK)  # noqa: PTH123, SIM115
    try:
        _require_regular(os.fstat(descriptor).st_mode)
        if length(file) > IN_MEMORY:
            return file
        file.seek(0)
        data = file.read()
    except BaseException:
        file.close()
        raise
    file.close()
    return io.BytesIO(data)


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise AudioError("is a folder")
    if not stat.S_ISREG(mode):
        raise AudioError("not a regular file")


def not_read(error: OSError | ValueError) -> AudioError:
    """Return the reason why the system does not open or read a file."""
    # ValueError: a null character, or text that no file name can hold
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return AudioError("no such file")
    return AudioError("cannot be read", error.strerror or str(error))


class Bytes:
    """Random access to the bytes of a file: `data(position, count)`, fewer at its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size = file, length(file)
        self._start, self._buffer = 0, b""

    def __call__(self, position: int, count: int) -> bytes:
        """Return the bytes at a position."""
        begin = position - self._start
        if begin < 0 or begin + count > len(self._buffer):
            self._file.seek(position)
            self._start, self._buffer, begin = position, self._file.read(max(count, CHUNK)), 0
        return self._buffer[begin : begin + count]

    def find(self, pattern: bytes, position: int, end: int) -> int:
        """Return the first position of a pattern from `position` on, -1 if there is none."""
        end = min(end, self.size)
        while position + len(pattern) <= end:
            self(position, len(pattern))  # buffers more than the pattern's length
            offset = self._buffer.find(pattern, position - self._start, end - self._start)
            if offset >= 0:
                return self._start + offset
            position = self._start + len(self._buffer) - len(pattern) + 1
        return -1


class Copy(io.BytesIO):
    """A part of a file in memory as a file of its own, which is read faster than a `Window`."""

    name = ""  # FFmpeg looks at the suffix
    error: OSError | None = None

    @property
    def furthest(self) -> int:
        """Return the position after the last byte that was read."""
        return self.tell()


def part_of(file: BinaryIO, part: Part) -> "Copy | Window":
    """Return a part of a file as a file of its own."""
    if not isinstance(file, io.BytesIO) or part.endless:
        return Window(file, part)
    data = bytearray(file.getbuffer()[part.start : part.end])
    for offset, edit in part.edits:
        data[offset : offset + len(edit)] = edit
    return Copy(data)


class Window(io.RawIOBase):
    """A part of a file as a file of its own, for decoders that read files.

    libmpg123 takes the number of samples of an MP3 without a tag from its size and its first
    frames, and libsndfile stops there, up to half too early. An endless part therefore claims many
    times its size, and is read to its true end. `error` is what reading the file raised: an
    exception cannot pass through the C code in between.
    """

    name = ""

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self._file, self._part = file, part
        self._length = part.end - part.start
        self._size = self._length * PRETENDED + TAIL if part.endless else self._length
        self._position = 0
        self.furthest = 0
        self.error: OSError | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position within the part."""
        base = (0, self._position, self._size)[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: object) -> int:
        """Fill a buffer with the bytes at the position."""
        view = memoryview(cast(bytearray, buffer)).cast("B")
        data = self._bytes(len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _bytes(self, count: int) -> bytes:
        position, part = self._position, self._part
        if position >= self._length:
            tail = part.endless and position >= self._size - TAIL
            return bytes(max(0, min(count, self._size - position))) if tail else b""
        try:
            self._file.seek(part.start + position)
            data = self._file.read(min(count, self._length - position))
        except OSError as error:
            self.error = error
            return b""
        self.furthest = max(self.furthest, position + len(data))
        for offset, edit in part.edits:
            first, last = max(offset, position), min(offset + len(edit), position + len(data))
            if first < last:
                inner = edit[first - offset : last - offset]
                data = data[: first - position] + inner + data[last - position :]
        return data
