"""MP4, M4A, MOV: files of boxes; of concatenated films FFmpeg reads the first only."""

from collections.abc import Iterator

from ser.corpus.decoding.file import Bytes, Part

BEGINS = b"ftyp"  # the box in front of each film
INDEX = b"moov"
MOST = 100_000  # boxes


def parts(data: Bytes, start: int) -> list[Part]:
    """Return the concatenated films: one in most files.

    The index is usually last: a file that was cut lacks it, and cannot be decoded at all.
    """
    starts, indexed, last = [start], False, start
    for position, name, size in _boxes(data, start):
        if name == BEGINS and indexed:
            starts.append(position)
        indexed = (indexed and name != BEGINS) or name == INDEX
        last = position + size
    ends = [*starts[1:], data.size]
    films = [Part(first, end) for first, end in zip(starts, ends, strict=True)]
    if not indexed or last > data.size:
        films[-1] = Part(starts[-1], data.size, cut=True)
    return films


def _boxes(data: Bytes, position: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield the position, name and size of each box."""
    for _ in range(MOST):
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
