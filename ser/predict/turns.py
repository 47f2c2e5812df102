"""Who speaks when in a recording: the turns of its speakers, as a diarisation gives them.

    SPEAKER talk 1 0.500 2.250 <NA> <NA> anna <NA> <NA>

RTTM (NIST 2009, "The 2009 RT Meeting Recognition Evaluation Plan", appendix A) has an object per
line: type, file, channel, onset and duration in seconds, orthography, subtype, name, confidence.
SPEAKER lines are read; those of other objects and comments (`;;`) are skipped. A recording is
found by its file name without suffix, in which spaces may be underscores.

Turns of no duration are left out, and turns of one speaker that overlap are joined, as one person
talks once at a time. `<NA>` is a speaker who is not known.
"""

import heapq
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ser.corpus.audio import SAMPLE_RATE
from ser.corpus.errors import LONGEST_NAME, UserError, listed

OBJECTS = frozenset(
    [
        *("SPEAKER", "SPKR-INFO", "SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX"),
        *("NON-SPEECH", "FILLER", "EDIT", "IP", "SU", "CB", "A/P"),
    ]
)  # the types of the plan
UNKNOWN = "<NA>"
LARGEST = 64 << 20  # bytes of a file
MOST_TURNS = 1_000_000
LATEST = 1e6  # s, eleven days
PART = 15 * SAMPLE_RATE  # samples; a turn of more than two is divided


class Turn(NamedTuple):
    """A turn from `start` to `end`, in seconds; `speaker` is None where not known.

    >>> Turn(0.5, 2.75, "anna")
    Turn(start=0.5, end=2.75, speaker='anna')
    """

    start: float
    end: float
    speaker: str | None


@dataclass(frozen=True)
class Turns:
    """The turns of recordings by file name without suffix; of any recording under ANY.

    `source` is the file for messages. Turns are sorted by start.
    """

    source: str
    by_file: Mapping[str, Sequence[Turn]] = field(repr=False)

    ANY = ""  # the name of turns that were given without a file

    @classmethod
    def read(cls, given: "TurnsSource") -> "Turns":
        """Return turns of an RTTM file, or of a list of (start, end, speaker) of one recording.

        Raises `UserError`.
        """
        if isinstance(given, Turns):
            return given
        if isinstance(given, str | os.PathLike):
            return cls(str(given), _by_file(Path(given), _read_rttm(Path(given))))
        turns = [_given(number, turn) for number, turn in enumerate(given, 1)]
        return cls("turns", {cls.ANY: _joined(turns)})

    def of(self, path: str) -> Sequence[Turn]:
        """Return the turns of a recording, () where it has none.

        Samples, which have no name, get those of the only file.
        """
        if self.ANY in self.by_file:
            return self.by_file[self.ANY]
        if not path:
            return next(iter(self.by_file.values())) if len(self.by_file) == 1 else ()
        names = [_composed(name) for name in (Path(path).stem, Path(path).name)]
        names += [name.replace(" ", "_") for name in names]
        return next((self.by_file[name] for name in names if name in self.by_file), ())

    def also_for(self, path: Path) -> "Turns":
        """Return these turns with those of the only file for another name, too."""
        only = self.of("")
        return replace(self, by_file={path.stem: only, **self.by_file}) if only else self

    def missing(self, path: str) -> str:
        """Return why a recording has no turns."""
        files = listed(self.by_file, 5)
        if not path:
            return f"{self.source} has turns of several files ({files}), and the clip has no name"
        return f"{self.source} has no turns of '{Path(path).stem}'; it has those of {files}"


TurnsSource = str | os.PathLike[str] | Sequence[tuple[float, float, str | None]] | Turns


def _given(number: int, turn: object) -> Turn:
    """Check a turn that was given in Python."""
    where = f"turns: number {number}"
    if not isinstance(turn, Sequence) or isinstance(turn, str) or len(turn) != 3:
        raise UserError(f"{where} is not (start, end, speaker); give seconds and a name or None.")
    start, end, speaker = turn
    try:
        first, last = float(start), float(end)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: start and end are not numbers; give seconds.") from error
    if not 0 <= first <= last <= LATEST:
        raise UserError(
            f"{where} is from {first:g} to {last:g} s; give a start from 0 and an end behind it."
        )
    return Turn(first, last, None if speaker is None else str(speaker))


def _read_rttm(path: Path) -> Iterator[tuple[str, Turn]]:
    """Yield the file and the turn of each SPEAKER line."""
    turns = 0
    for number, line in enumerate(_lines(path), 1):
        cells = [cell for cell in re.split(r"[ \t]+", line) if cell]  # not at Unicode's spaces
        if not cells or cells[0].startswith((";;", "#")):
            continue
        if cells[0] not in OBJECTS:
            raise _mistake(
                path,
                number,
                f"'{cells[0][:LONGEST_NAME]}' is no type of object of RTTM",
                "each line begins with SPEAKER",
            )
        if cells[0] != "SPEAKER":
            continue
        turns += 1
        if turns > MOST_TURNS:
            raise _mistake(
                path, number, f"more than {MOST_TURNS:,} turns", "divide the file by recording"
            )
        yield _parse(path, number, cells)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"{path}: the turns cannot be read ({reason}); give an RTTM file."
        ) from error
    if len(data) > LARGEST:
        raise UserError(
            f"{path}: over {LARGEST >> 20} MB, the limit for turns; divide it by recording."
        )
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _mistake(path, number, "it is not UTF-8", "save the file as UTF-8") from error


def _parse(path: Path, number: int, cells: Sequence[str]) -> tuple[str, Turn]:
    if not 8 <= len(cells) <= 10:
        raise _mistake(
            path,
            number,
            f"it has {len(cells)} fields",
            "give SPEAKER, file, channel, onset, duration, <NA>, <NA>, speaker, <NA>, <NA>, none "
            "of them with a space",
        )
    file, name = _composed(cells[1]), cells[7]
    for kind, value in (("file", file), ("speaker", name)):
        if len(value) > LONGEST_NAME or not value.isprintable():
            raise _mistake(
                path,
                number,
                f"the name of its {kind} is long or not printable",
                f"give up to {LONGEST_NAME} characters",
            )
    onset = _seconds(path, number, "onset", cells[3])
    duration = _seconds(path, number, "duration", cells[4])
    return file, Turn(onset, onset + duration, None if name == UNKNOWN else name)


def _seconds(path: Path, number: int, what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LATEST:
        raise _mistake(
            path,
            number,
            f"its {what} is '{text[:LONGEST_NAME]}'",
            f"give seconds from 0 to {LATEST:g}",
        )
    return value


def _composed(name: str) -> str:
    """Return a name with composed letters; the file names of macOS have decomposed ones."""
    return unicodedata.normalize("NFC", name)


def _mistake(path: Path, number: int, problem: str, remedy: str) -> UserError:
    return UserError(f"{path}: line {number}: {problem}; {remedy}.")


def _by_file(path: Path, turns: Iterable[tuple[str, Turn]]) -> dict[str, Sequence[Turn]]:
    by_file: dict[str, list[Turn]] = {}
    for file, turn in turns:
        by_file.setdefault(file, []).append(turn)
    if not by_file:
        raise UserError(f"{path}: it has no SPEAKER line; give the turns of a diarisation as RTTM.")
    return {file: _joined(of_file) for file, of_file in by_file.items()}


def _joined(turns: Iterable[Turn]) -> list[Turn]:
    """Sort turns, drop those of no duration, and join those of a speaker that overlap."""
    joined: list[Turn] = []
    last: dict[str | None, int] = {}  # the place of each speaker's last turn
    spoken = (turn for turn in turns if turn.end > turn.start)
    for turn in sorted(spoken, key=lambda t: (t.start, t.end, t.speaker or "")):
        at = last.get(turn.speaker)
        if at is not None and turn.start < joined[at].end:
            joined[at] = joined[at]._replace(end=max(joined[at].end, turn.end))
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
