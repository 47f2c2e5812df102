"""Who speaks when in a recording: the turns of its speakers, as a diarisation gives them.

`ser.predict.turn_files` reads them. A recording is found by its file name, with or without folder
and suffix, in which spaces may be underscores; turns that name no recording are those of any.

Turns of one speaker that overlap are joined, as one person talks once at a time.
"""

import contextlib
import heapq
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from ser.corpus import audio
from ser.corpus.audio import SAMPLE_RATE
from ser.corpus.decoding.suffixes import SUFFIXES
from ser.corpus.errors import AudioError, listed, plural, shown
from ser.predict.sources import ClipInput
from ser.predict.turn_files import ANY, Turn, read_turns, turns_of_list

PART = 15 * SAMPLE_RATE  # samples; a turn of more than two is divided
TOLERANCE = 0.1  # s that a turn may reach beyond the audio: one frame of a diarisation


@dataclass(frozen=True)
class Turns:
    """The turns of recordings by the names that the file has; of any recording under `ANY`.

    `source` is the file for messages, and `unit` what its turns are numbered by. Turns are sorted
    by start.
    """

    source: str
    by_file: Mapping[str, Sequence[Turn]] = field(repr=False)
    unit: str = "line"

    @classmethod
    def read(cls, given: "TurnsSource") -> "Turns":
        """Return turns of a file, or of a list of (start, end, speaker) of one recording.

        Raises `UserError`.
        """
        if isinstance(given, Turns):
            return given
        if isinstance(given, str | os.PathLike):
            by_file, unit = read_turns(Path(given))
            joined = {file: _joined(turns) for file, turns in by_file.items()}
            return cls(str(given), joined, unit)
        return cls("turns", {ANY: _joined(turns_of_list(given))}, "number")

    @property
    def named(self) -> bool:
        """Return whether the turns name their recordings."""
        return ANY not in self.by_file

    def of(self, path: str) -> Sequence[Turn]:
        """Return the turns of a recording, () where it has none.

        Samples, which have no name, get those of the only file.
        """
        names = self._names(path)
        return self.by_file[names[0]] if len(names) == 1 else ()

    def _names(self, path: str) -> Sequence[str]:
        """Return by which names the file has a recording; several where only their folders differ.

        >>> Turns("x.csv", {"/a/talk.flac": [Turn(0, 1, "anna")]})._names("talk.wav")
        ['/a/talk.flac']
        """
        if not path:
            return list(self.by_file)
        names = [unicodedata.normalize("NFC", n) for n in (Path(path).stem, Path(path).name)]
        names += [name.replace(" ", "_") for name in names]
        if exact := [name for name in names if name in self.by_file]:
            return exact[:1]
        same = self._by_recording.get(_recording(names[0]), [])
        whole = "/" + unicodedata.normalize("NFC", path)
        any_recording = [] if self.named else [ANY]
        return [name for name in same if whole.endswith("/" + name)] or same or any_recording

    @cached_property
    def _by_recording(self) -> Mapping[str, Sequence[str]]:
        by_recording: dict[str, list[str]] = {}
        for name in filter(None, self.by_file):
            by_recording.setdefault(_recording(name), []).append(name)
        return by_recording

    def unused(self, paths: Iterable[str | Path]) -> str:
        """Return how many turns are of none of these recordings; "" where all are used."""
        used = {name for path in paths for name in self._names(str(path))}
        unused = [name for name in self.by_file if name not in used]
        if not unused:
            return ""
        count = plural(sum(len(self.by_file[name]) for name in unused), "turn")
        return (
            f"{self.source}: {count} left out, of recordings that are not in this call (the first "
            f"is '{shown(unused[0])}')."
        )

    def workload(self, clips: Iterable[ClipInput]) -> str:
        """Return how much audio the turns have; "" up to an hour, or ten times the recordings."""
        count, spoken = 0, 0.0
        for clip in clips:
            turns = self.of(clip.name)
            if clip.file is None or sum(turn.end - turn.start for turn in turns) <= 3600:
                continue
            with contextlib.suppress(AudioError):  # reported where it is decoded
                seconds = audio.info(clip.file).seconds or math.inf
                within = sum(max(min(turn.end, seconds) - turn.start, 0.0) for turn in turns)
                if within > max(3600, 10 * seconds):
                    count, spoken = count + len(turns), spoken + within
        return (
            f"{self.source}: {count:,} turns, {spoken / 3600:,.0f} h of audio to predict."
            if count
            else ""
        )

    def also_for(self, name: str) -> "Turns":
        """Return these turns with those of the only file for another name, too."""
        only = self.of("")
        return replace(self, by_file={name: only, **self.by_file}) if only else self

    def missing(self, path: str) -> str:
        """Return why a recording has no turns."""
        files = listed(self.by_file, 5)
        if not path:
            return f"{self.source} has turns of several files ({files}), and the clip has no name"
        stem = Path(path).stem
        if several := self._names(path):
            return (
                f"{self.source} has turns of several recordings called '{stem}' "
                f"({listed(several, 5)}); name them by the paths of this call."
            )
        return (
            f"{self.source} has no turns of '{stem}', only of {files}; name the recording in it as "
            f"'{stem}', or give its own turns."
        )

    def beyond(self, path: str, seconds: float) -> str:
        """Return which turn begins after a recording of so many seconds; "" where none does."""
        turns = self.of(path)
        if not turns or turns[-1].start <= seconds + TOLERANCE:
            return ""
        last = turns[-1]
        return (
            f"{self.source}: {self.unit} {last.number}: the turn begins at {last.start:.1f} s, and "
            f"the audio is {seconds:.1f} s long; give the turns of this recording."
        )


TurnsSource = str | os.PathLike[str] | Sequence[tuple[float, float, str | None]] | Turns


def _recording(name: str) -> str:
    """Return a name without its folder and suffix of audio, spaces as underscores."""
    last = re.split(r"[/\\]", name)[-1].replace(" ", "_")
    stem, dot, suffix = last.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in SUFFIXES and stem else last


def _joined(turns: Iterable[Turn]) -> list[Turn]:
    """Sort turns, and join those of a speaker that overlap."""
    joined: list[Turn] = []
    last: dict[str | None, int] = {}  # the place of each speaker's last turn
    for turn in sorted(turns, key=lambda t: (t.start, t.end, t.speaker or "")):
        at = last.get(turn.speaker)
        if at is not None and turn.start < joined[at].end:
            joined[at] = replace(joined[at], end=max(joined[at].end, turn.end))
        else:
            last[turn.speaker] = len(joined)
            joined.append(turn)
    return joined


def cut_turns(
    blocks: Iterable[np.ndarray], turns: Iterable[Turn]
) -> Iterator[tuple[int, np.ndarray, str | None]]:
    """Yield first sample, samples and speaker of the turns of a stream, by their start.

    `blocks` are samples at 16 kHz. A turn over 30 s comes in equal parts of up to 15 s. Turns end
    with the audio, and those behind it are left out.
    """
    parts = heapq.merge(*map(_parts, turns), key=lambda part: part[:2])
    part = next(parts, None)
    buffer, start = np.empty(0, np.float32), 0
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while part is not None and part[1] <= start + len(buffer):
            yield part[0], buffer[part[0] - start : part[1] - start], part[2]
            part = next(parts, None)
        # what comes before the next part is needed no more
        drop = len(buffer) if part is None else min(max(part[0] - start, 0), len(buffer))
        buffer, start = buffer[drop:], start + drop
    while part is not None and part[0] < start + len(buffer):
        yield part[0], buffer[part[0] - start : part[1] - start], part[2]
        part = next(parts, None)


def _parts(turn: Turn) -> Iterator[tuple[int, int, str | None]]:
    """Yield first and last sample of the parts of a turn, and its speaker."""
    start, end = round(turn.start * SAMPLE_RATE), round(turn.end * SAMPLE_RATE)
    count = math.ceil((end - start) / PART) if end - start > 2 * PART else 1
    edges = (start + (end - start) * i // count for i in range(count + 1))
    for first, last in pairwise(edges):
        yield first, last, turn.speaker
