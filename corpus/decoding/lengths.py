"""Rarer files (MATLAB 4 and 5, AVR, VOC, WVE, MPC2K, SDS): the share of the audio they have.

libsndfile reads what a file has, without an error where the header states more. PAF, PVF, IRCAM and
XI state no length that could be compared.
"""

import struct
from collections.abc import Callable
from typing import Literal

from ser.corpus.decoding.file import Bytes, Part

Order = Literal["little", "big"]
MOST = 10_000  # blocks of a file
MAT4_BYTES = (8, 4, 4, 2, 2, 1)  # of a value, by the tens of a matrix's type
UNKNOWN = 0x7EFF0000  # bytes; programs that do not know a length write the largest number
SDS_HEAD, SDS_PACKET, SDS_BODY = 21, 127, 120  # bytes


def part(data: Bytes) -> Part | None:
    """Return the whole file with the share of its audio that is present; None for other formats."""
    head = data(0, 128)
    for begins, stated in FORMATS:
        if head.startswith(begins) and len(head) > SDS_HEAD:
            try:
                size = stated(data, head)
            except (struct.error, IndexError):
                size = None
            incomplete = size is not None and data.size < size < UNKNOWN
            share = data.size / size if incomplete and size else 1.0
            return Part(0, data.size, present=share)
    return None


def _mat4(data: Bytes, head: bytes) -> int | None:
    order = ">" if head[2] else "<"
    position = 0
    for _ in range(2):  # the rate, the samples
        kind, rows, columns, _, name = struct.unpack(order + "5I", data(position, 20))
        position += 20 + name + rows * columns * MAT4_BYTES[kind % 100 // 10]
    return position


def _mat5(data: Bytes, head: bytes) -> int | None:
    order: Order = "little" if head[126:128] == b"IM" else "big"
    position = 128
    for _ in range(2):
        if data(position, 4) != (14).to_bytes(4, order):  # a matrix
            return None
        position += 8 + int.from_bytes(data(position + 4, 4), order)
    return position


def _avr(data: Bytes, head: bytes) -> int | None:
    stereo, bits = struct.unpack(">HH", head[12:16])
    (frames,) = struct.unpack(">I", head[26:30])
    return 128 + int(frames * (bits // 8) * (2 if stereo else 1))


def _voc(data: Bytes, head: bytes) -> int | None:
    position = int.from_bytes(head[20:22], "little")
    for _ in range(MOST):
        block = data(position, 4)
        if len(block) < 4 or block[0] == 0:
            return None
        position += 4 + int.from_bytes(block[1:], "little")
        if position > data.size:
            return None if block[1:] == b"\xff\xff\xff" else position
    return None


def _wve(data: Bytes, head: bytes) -> int | None:
    return 32 + int.from_bytes(head[18:22], "big")


def _mpc2k(data: Bytes, head: bytes) -> int | None:
    return 42 + int.from_bytes(head[30:34], "little") * 2 * (2 if head[21] else 1)


def _sds(data: Bytes, head: bytes) -> int | None:
    bits = head[6]
    samples = head[10] | head[11] << 7 | head[12] << 14
    if not 8 <= bits <= 28:
        return None
    packets = -(-samples // (SDS_BODY // -(-bits // 7)))
    return SDS_HEAD + packets * SDS_PACKET


FORMATS: tuple[tuple[bytes, Callable[[Bytes, bytes], int | None]], ...] = (
    (b"MATLAB 5.0 MAT-file", _mat5),
    (b"2BIT", _avr),
    (b"Creative Voice File\x1a", _voc),
    (b"ALawSoundFile**", _wve),
    (b"\x01\x04", _mpc2k),
    (b"\xf0\x7e", _sds),
    (b"\0\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0", _mat4),
    (b"\0\0\x03\xe8\0\0\0\x01\0\0\0\x01\0\0\0\0", _mat4),
)
