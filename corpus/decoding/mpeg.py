"""MPEG audio (MP1, MP2, MP3): the frames of a file.

There is no header of the whole, only one before every frame. A frame of silence with a tag (Xing,
Info) may come first and state how many follow; without it decoders estimate. Walking from frame to
frame gives the true number, shows whether the last frame is whole, and finds where another
recording begins: at its own tag, or where rate or channels change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ser.corpus.decoding.file import Bytes, Part

# kbit/s by index, for (MPEG-1, layer)
BITRATES = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG-1; MPEG-2 halves them, MPEG-2.5 quarters them
JUNK = 1000  # bytes between frames that libmpg123 skips by itself
TAGS = (b"ID3", b"TAG", b"APE")
SEARCHED = 1 << 16  # bytes before the first frame
MOST_JUNK = 1 << 18  # bytes between frames that are searched, without tags


@dataclass(frozen=True)
class Frame:
    """The header of a frame: bytes, samples per channel, Hz, channels, layer.

    `mean` is the mean size in bytes of frames with and without padding.
    """

    size: int
    mean: float
    samples: int
    rate: int
    channels: int
    layer: int

    @property
    def format(self) -> tuple[int, int, int, int]:
        """Return the properties that all frames of a recording share."""
        return self.samples, self.rate, self.channels, self.layer


@lru_cache(maxsize=4096)
def frame_of(header: bytes) -> Frame | None:
    """Parse the four bytes of a frame header; None if they are not one, or of free format."""
    if len(header) < 4:
        return None
    bits = int.from_bytes(header, "big")
    version, layer = bits >> 19 & 3, 4 - (bits >> 17 & 3)
    index, rate_index, padding = bits >> 12 & 15, bits >> 10 & 3, bits >> 9 & 1
    if bits >> 21 != 0x7FF or version == 1 or layer == 4 or index in (0, 15) or rate_index == 3:
        return None
    first = version == 3
    rate = RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    bitrate = BITRATES[first, layer][index] * 1000
    channels = 1 if bits >> 6 & 3 == 3 else 2
    if layer == 1:
        size = (12 * bitrate // rate + padding) * 4
        return Frame(size, 48 * bitrate / rate, 384, rate, channels, layer)
    samples = 1152 if layer == 2 or first else 576
    size, mean = samples // 8 * bitrate // rate + padding, samples / 8 * bitrate / rate
    return Frame(size, mean, samples, rate, channels, layer)


@dataclass
class _Run:
    """Frames of one recording: the first is at `start`, the last ends at `end`."""

    start: int
    end: int
    frame: Frame
    tag: int | None = None  # frames that its tag states, 0 where the tag does not
    count: int = 0
    cut: bool = False
    gap: int | None = None  # the first position of bytes that are neither a frame nor a tag
    damaged: bool = False  # frames are missing after its end

    def end_at_gap(self) -> None:
        """Mark it as damaged if, by its tag, frames are missing at a gap."""
        if self.gap is not None and self.tag and self.count < self.tag:
            self.end, self.damaged = self.gap, True


def parts(data: Bytes, start: int, end: int) -> list[Part]:
    """Return the recordings between two positions; empty where no frames can be followed."""
    runs = [run for run in _runs(data, start, end) if run.count]
    return [_part(run, last=run is runs[-1]) for run in runs]


def _part(run: _Run, last: bool) -> Part:
    # a tag that counts its own frame states one too many: 26 ms
    counted = bool(run.tag) and run.count <= (run.tag or 0) + 1
    start = run.start
    if run.tag and not counted:  # the tag is of a shorter recording, and would end this one
        start += run.frame.size
    frames = (run.tag or 0) * run.frame.samples if counted else None
    return Part(
        start,
        run.end,
        frames=frames if last else 0,
        cut=run.cut and last,
        damaged=run.damaged,
        mpeg=True,
        endless=not counted,
    )


def _runs(data: Bytes, start: int, end: int) -> Iterator[_Run]:
    position, run, gap, junk = start, None, 0, 0  # gap: bytes between frames; junk: without tags
    previous: Frame | None = None
    while position + 4 <= end:
        frame = frame_of(data(position, 4))
        same = run is not None and frame is not None and frame.format == run.frame.format
        if frame is None or not (same and not gap):
            frame = confirmed(data, position, end)
        if frame is None:
            after = _after(data, position, end)
            gap += after - position
            junk += 0 if data(position, 3) in TAGS else after - position
            position = after
            if junk > (SEARCHED if run is None else MOST_JUNK):
                break
            continue
        if position + frame.size > end:
            if run is not None:
                run.cut = frame.format == run.frame.format
            break
        tag = _tag(data, position, frame)
        if run is not None and previous is not None and tag is None and junk == gap > 0:
            run.gap = run.end if run.gap is None else run.gap
            if _frames_lost(previous, frame, gap):
                run.damaged = True
                break
        if run is None or tag is not None or gap > JUNK or frame.format != run.frame.format:
            if run is not None:
                run.end_at_gap()
                yield run
                if run.damaged:
                    return
            run = _Run(position, position, frame, tag)
        run.count += tag is None
        position += frame.size
        run.end, gap, junk, previous = position, 0, 0, frame
    if run is not None:
        run.end_at_gap()
        run.cut = run.cut or (0 < end - run.end < 4 and data(run.end, 1) == b"\xff")
        yield run


def _frames_lost(before: Frame, after: Frame, gap: int) -> bool:
    """Return whether a gap between two frames of one bit rate is as long as whole frames.

    Anything else between frames is the seam of two recordings, each of which is whole.
    """
    same = before.format == after.format and before.mean == after.mean
    return same and gap > before.mean / 2 and abs(gap - round(gap / before.mean) * before.mean) < 1


def confirmed(data: Bytes, position: int, end: int) -> Frame | None:
    """Return the frame at a position if another of its kind, or the end, follows."""
    frame = frame_of(data(position, 4))
    if frame is None:
        return None
    after = position + frame.size
    if after >= end - 3:
        return frame
    following = data(after, 4)
    other = frame_of(following)
    if other is not None and other.format == frame.format:
        return frame
    return frame if following[:3] in (b"TAG", b"ID3") or following == b"APET" else None


def _after(data: Bytes, position: int, end: int) -> int:
    """Return where to search next: after a tag, or at the next byte that may begin a frame."""
    head = data(position, 32)
    if head.startswith(b"ID3") and len(head) == 32:
        return min(end, position + id3_size(head))
    if head.startswith(b"TAG") and end - position == 128:
        return end
    if head.startswith(b"APETAGEX") and len(head) == 32:
        body = int.from_bytes(head[12:16], "little")
        return min(end, position + body + 32 * (head[23] >> 5 & 1))
    position = data.find(b"\xff", position + 1, end)
    return end if position < 0 else position


def id3_size(head: bytes) -> int:
    """Return the size in bytes of an ID3v2 tag from its first ten."""
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 127
    return size + 10 + 10 * (head[5] >> 4 & 1)


def _tag(data: Bytes, position: int, frame: Frame) -> int | None:
    """Return the number of frames that this frame's tag states, 0 if none, None without a tag."""
    if frame.layer != 3:
        return None
    first = frame.samples == 1152
    side = {(True, 2): 32, (True, 1): 17, (False, 2): 17, (False, 1): 9}[first, frame.channels]
    tag = data(position + 4 + side, 12)
    if tag[:4] not in (b"Xing", b"Info"):
        return None
    return int.from_bytes(tag[8:12], "big") if tag[7] & 1 else 0
