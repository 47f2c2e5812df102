"""Ogg: files of pages, some of which begin another recording.

A file of several concatenated recordings is a chain; libsndfile reads its first link only. Every
page states its own size, so walking from page to page finds the links, and a last page that is not
whole. Pages are numbered and have checksums: decoders silently skip a broken or missing one, so the
last part ends before the first such page and is marked as damaged.
"""

import zlib

from ser.corpus.decoding.file import Bytes, Part

BEGINS, ENDS = 2, 4  # flags of a page that is the first, the last of a stream
CHECKSUM = slice(22, 26)  # of a page's head, which counts as zeros in it
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
ONES = 0xFFFFFFFF


def parts(data: Bytes, start: int) -> list[Part]:
    """Return the links of a chain: one in most files. The streams of a link begin together."""
    starts, position, began = [start], start, True
    whole, cut, damaged, ended = start, False, False, False  # whole: end of the last good page
    # by stream: its last page, and whether that is a header
    numbers: dict[bytes, tuple[int, bool]] = {}
    while position < data.size:
        head = data(position, 27)
        if not head.startswith(b"OggS"):
            position = data.find(b"OggS", position, data.size)
            if position < 0:
                damaged = not ended
                break
            continue
        segments = data(position + 27, head[26]) if len(head) == 27 else b""
        after = position + 27 + len(segments) + sum(segments)
        if len(head) < 27 or len(segments) < head[26] or after > data.size:
            cut = True
            break
        begins, stream = bool(head[5] & BEGINS), head[14:18]
        number = int.from_bytes(head[18:22], "little")
        last, header = numbers.get(stream, (number - 1, False))
        # a recorded broadcast has the header, then the page at which recording began
        follows = begins or number == last + 1 or (header and position == whole)
        if not follows or checksum(data(position, after - position)) != head[CHECKSUM]:
            damaged = True
            break
        numbers[stream] = number, not any(head[6:14])
        if begins and not began:
            starts.append(position)
        ended = bool(head[5] & ENDS)
        began, position, whole = begins, after, after
    ends = [*starts[1:], whole if damaged else data.size]
    links = [Part(first, last) for first, last in zip(starts, ends, strict=True)]
    final = links[-1]
    return [*links[:-1], Part(final.start, final.end, cut=cut, damaged=damaged)]


def checksum(page: bytes) -> bytes:
    """Return the checksum of a page, in the bytes that the page contains.

    It is the CRC-32 of zlib with the bits of every byte in the opposite order, from zero.
    """
    zeroed = page[:22] + bytes(4) + page[26:]
    crc = zlib.crc32(zeroed.translate(REVERSED), ONES) ^ ONES
    return crc.to_bytes(4, "little").translate(REVERSED)[::-1]
