"""The recordings of a file, by its bytes: one in most files, several in a chain.

Nothing is decoded here. What a header claims is compared with the audio when it is read.
"""

from collections.abc import Iterator

from ser.corpus.decoding import chunks, mpeg, ogg
from ser.corpus.decoding.file import Bytes, Part

MPEG_SUFFIXES = (".mp3", ".mp2", ".mp1", ".mpga", ".mpa")
FLAC = b"fLaC"
BEGINS_FLAC = tuple(FLAC + bytes((last, 0, 0, 34)) for last in (0, 128))  # and its STREAMINFO
TOTAL = 18  # where STREAMINFO states the number of samples, in 36 bits
FILM = b"ftyp"  # the box in front of each film of an MP4, M4A or MOV
INDEX = b"moov"
MOST_BOXES = 100_000


def survey(data: Bytes, suffix: str = "") -> list[Part]:
    """Return the recordings of a file; `suffix` is that of its name, such as ".mp3"."""
    start = tagged = _after_tags(data)
    magic = data(start, 4)
    if magic == FLAC:
        return [flac(data, start)]
    if magic == b"OggS":
        return ogg.parts(data, start)
    if data(start + 4, 4) == FILM:
        return films(data, start)
    if magic in chunks.MAGICS:
        return chunks.parts(data, start)
    if tagged or suffix.lower() in MPEG_SUFFIXES or mpeg.confirmed(data, start, data.size):
        return mpeg.parts(data, start, data.size) or [Part(0, data.size)]
    return [Part(0, data.size)]


def flac(data: Bytes, start: int) -> Part:
    """Return a FLAC stream, without a length for its decoder, which then reads to the end."""
    field = int.from_bytes(data(start + TOTAL, 8), "big")
    total, other_bits = field & ((1 << 36) - 1), field >> 36 << 36
    end = _before_tags(data)
    if not total:
        return Part(start, end, flac=True)
    return Part(start, end, ((TOTAL, other_bits.to_bytes(8, "big")),), total, flac=True)


def next_flac(data: Bytes, part: Part, read: int) -> Part | None:
    """Return the FLAC stream after one that ended within the `read` bytes read of it."""
    position = max(part.start + 4, part.start + read - (1 << 17))
    positions = [data.find(begin, position, part.end) for begin in BEGINS_FLAC]
    starts = [start for start in positions if start >= 0]
    return flac(data, min(starts)) if starts else None


def films(data: Bytes, start: int) -> list[Part]:
    """Return the concatenated films of an MP4: one in most files; FFmpeg reads the first only.

    The index is usually last: a file that was cut lacks it, and cannot be decoded at all.
    """
    starts, indexed, last = [start], False, start
    for position, name, size in _boxes(data, start):
        if name == FILM and indexed:
            starts.append(position)
        indexed = (indexed and name != FILM) or name == INDEX
        last = position + size
    ends = [*starts[1:], data.size]
    parts = [Part(first, end) for first, end in zip(starts, ends, strict=True)]
    if not indexed or last > data.size:
        parts[-1] = Part(starts[-1], data.size, cut=True)
    return parts


def _boxes(data: Bytes, position: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield the position, name and size of each box."""
    for _ in range(MOST_BOXES):
        head = data(position, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:  # to the end of the file
            size = data.size - position
        if len(head) < 8 or size < 8 or not head[4:8].isascii():
            return
        yield position, head[4:8], size
        position += size


def _after_tags(data: Bytes) -> int:
    """Return where the audio begins after tags of ID3v2."""
    position = 0
    while (head := data(position, 10)).startswith(b"ID3") and len(head) == 10:
        position += mpeg.id3_size(head)
    return position if position < data.size else 0


def _before_tags(data: Bytes) -> int:
    """Return where the audio ends before tags of ID3v1 and APE."""
    end = data.size
    if end >= 128 and data(end - 128, 3) == b"TAG":
        end -= 128
    foot = data(end - 32, 32) if end >= 32 else b""
    if foot.startswith(b"APETAGEX"):
        body = int.from_bytes(foot[12:16], "little")
        header = 32 * (foot[23] >> 7 & 1)
        end = max(0, end - body - header)
    return end
