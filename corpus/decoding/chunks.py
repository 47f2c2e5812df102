"""Files of chunks (WAV, RF64, W64, AIFF, CAF, 8SVX), AU, NIST: how long the audio really is.

A program that writes into a pipe cannot go back to write the size of the audio, and leaves 0 or a
very large number: the audio then extends to the end of the file. Any other size that is larger than
the file shows that it was cut. libsndfile reads what is left in both cases, without an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ser.corpus.decoding import mpeg
from ser.corpus.decoding.file import Bytes, Part

MPEG_CODECS = (0x50, 0x55)  # of WAV: MP1 or MP2, MP3
MOST = 10_000  # chunks, or concatenated files


@dataclass(frozen=True)
class _Form:
    """The layout of chunks in a kind of file: where the first is, how it is named and measured."""

    first: int
    audio: tuple[bytes, ...]
    order: Literal["little", "big"]
    name: int = 4
    size: int = 4
    align: int = 2
    counts_head: bool = False  # the size includes name and size


WAV = _Form(12, (b"data",), "little")
FORMS = {
    b"RIFF": WAV,
    b"RF64": WAV,
    b"BW64": WAV,
    b"RIFX": _Form(12, (b"data",), "big"),
    b"FORM": _Form(12, (b"SSND", b"BODY"), "big"),
    b"riff": _Form(40, (b"data",), "little", name=16, size=8, align=8, counts_head=True),
    b"caff": _Form(8, (b"data",), "big", size=8, align=1),
}
MAGICS = (*FORMS, b".snd", b"NIST")


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    size: int
    body: int  # where it begins
    next: int  # where the chunk behind it begins


def parts(data: Bytes, start: int) -> list[Part]:
    """Return the recordings: one, or several concatenated files of a kind."""
    recordings: list[Part] = []
    magic = data(start, 4)
    while data(start, 4) == magic and len(recordings) < MOST:
        if magic == b".snd":
            inner, start = _au(data, start)
        elif magic == b"NIST":
            inner, start = _nist(data, start)
        else:
            inner, start = _form(data, start, FORMS[magic])
        recordings += inner
    return recordings


def _form(data: Bytes, start: int, form: _Form) -> tuple[list[Part], int]:
    """Return the recordings of one file, and where the next one may begin."""
    wide, codec = -1, 0
    for chunk in _chunks(data, start + form.first, form):
        if chunk.name == b"ds64":
            wide = int.from_bytes(data(chunk.body + 8, 8), "little")
        elif chunk.name == b"fmt ":
            codec = int.from_bytes(data(chunk.body, 2), form.order)
        elif chunk.name in form.audio:
            if wide > 0 and chunk.size == 0xFFFFFFFF:
                after = chunk.body + wide + wide % form.align
                chunk = _Chunk(chunk.name, wide, chunk.body, after)  # noqa: PLW2901
            part = _audio(data, start, form, chunk)
            if form is WAV and codec in MPEG_CODECS:
                last = data.size if part.edits else min(chunk.body + chunk.size, part.end)
                return mpeg.parts(data, chunk.body, last) or [part], part.end
            return [part], part.end
    size = int.from_bytes(data(start + 4, 4), form.order) + 8  # AVI
    present = data.size - start
    cut = form is WAV and size > present and not _unknown(size)
    return [Part(start, data.size, present=present / size if cut else 1.0)], data.size


def _audio(data: Bytes, start: int, form: _Form, chunk: _Chunk) -> Part:
    present = data.size - chunk.body
    if chunk.size > present:
        share = 1.0 if _unknown(chunk.size) else present / chunk.size
        return Part(start, data.size, present=share)
    end, magic = chunk.next, data(start, 4)
    for following in _chunks(data, chunk.next, form):
        is_name = all(32 <= byte < 127 for byte in following.name)
        if following.name == magic or not is_name:
            break
        end = following.next
    offset = data(end - 8, 20).find(magic)  # a byte of padding may be missing, or one too many
    if offset >= 0:
        return Part(start, end - 8 + offset)
    if end == chunk.next and _continues(data, start, form, chunk):
        at = chunk.body - form.size - start
        return Part(start, data.size, edits=((at, b"\xff" * form.size),))
    return Part(start, data.size)


def _continues(data: Bytes, start: int, form: _Form, chunk: _Chunk) -> bool:
    """Return whether the audio of a WAV continues after its stated size, which is then wrong."""
    if form.first != 12 or b"data" not in form.audio or chunk.body + chunk.size + 1 >= data.size:
        return False
    if not chunk.size:
        return True
    end = start + 8 + int.from_bytes(data(start + 4, 4), form.order)
    written = 0 <= end - (chunk.body + chunk.size) <= 1
    return not written and any(data(chunk.next, 1 << 16))  # zeros are padding


def _au(data: Bytes, start: int) -> tuple[list[Part], int]:
    offset, size = (int.from_bytes(data(start + at, 4), "big") for at in (4, 8))
    present = data.size - start - offset
    if size > present:
        share = 1.0 if _unknown(size) else max(present, 0) / size
        return [Part(start, data.size, present=share)], data.size
    end = start + offset + size
    followed = size > 0 and data(end, 4) == b".snd"
    return [Part(start, end if followed else data.size)], end


def _chunks(data: Bytes, position: int, form: _Form) -> Iterator[_Chunk]:
    """Yield chunks until one does not begin within the file."""
    for _ in range(MOST):
        head = data(position, form.name + form.size)
        if len(head) < form.name + form.size:
            return
        size = int.from_bytes(head[form.name :], form.order)
        size = max(0, size - len(head)) if form.counts_head else size
        body = position + len(head)
        position = body + size + -size % form.align
        yield _Chunk(head[:4], size, body, position)


def _unknown(size: int) -> bool:
    """Return whether a size is one that programs write for an unknown one (ffmpeg, sox, …)."""
    low = size & 0xFFFFFFFF
    return (
        size == 0
        or size >= 1 << 62
        or (size < 1 << 32 and (low >= 0xFFFFF000 or 0x7EFFFF00 <= low <= 0x80000200))
    )


def _nist(data: Bytes, start: int) -> tuple[list[Part], int]:
    """Read the header of a NIST SPHERE file: text, whose size is its second line."""
    fields = {}
    for line in data(start, 1024).decode("latin-1").splitlines():
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[1].startswith("-"):
            fields[words[0]] = words[2]
    try:
        header = int(data(start + 8, 8))
        needed = ("sample_count", "sample_n_bytes", "channel_count")
        count, width, channels = (int(fields[name]) for name in needed)
    except (ValueError, KeyError):
        return [Part(start, data.size)], data.size
    size, present = count * width * channels, data.size - start - header
    if size > present > 0 and "sample_coding" in fields and "," not in fields["sample_coding"]:
        return [Part(start, data.size, present=present / size)], data.size
    end = start + header + size
    return [Part(start, end if data(end, 4) == b"NIST" else data.size)], end
