"""Files that say who speaks when: RTTM, CSV, and the JSON of WhisperX.

    SPEAKER talk 1 0.500 2.250 <NA> <NA> anna <NA> <NA>        talk.rttm
    start,end,speaker,file                                     talk.csv; `file` may be left out
    {"segments": [{"start": 0.5, "end": 2.75, "speaker": "anna", "words": […]}]}      talk.json

RTTM (NIST 2009, "The 2009 RT Meeting Recognition Evaluation Plan", appendix A) has an object per
line: type, file, channel, onset and duration in seconds, orthography, subtype, name, confidence.
SPEAKER lines are read; those of other objects and comments (`;;`) are skipped.

A CSV is split as `ser.corpus.rows` splits tables: semicolons, tabs or bars may separate its cells,
too, and beside semicolons decimals may have a comma. Capitals of its header do not matter; other
columns are ignored. Its files may be named with their folder and suffix. WhisperX gives each word
its times and its speaker, where it could: successive words of one speaker are a turn, and a segment
without such words is one. `<NA>`, and in CSV and JSON nothing, is a speaker who is not known.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from ser.cache.json_file import parse_object
from ser.corpus.errors import LONGEST_NAME, UserError, listed, shown
from ser.corpus.rows import Cells, Rows, detect_separator, number_in

OBJECTS = frozenset(
    [
        *("SPEAKER", "SPKR-INFO", "SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX"),
        *("NON-SPEECH", "FILLER", "EDIT", "IP", "SU", "CB", "A/P"),
    ]
)  # the types of the plan
UNKNOWN = "<NA>"
ANY = ""  # the recording of turns that name none
LARGEST = 64 << 20  # bytes of a file
MOST_TURNS = 1_000_000
LATEST = 1e6  # s, eleven days
COLUMNS = ("start", "end", "speaker", "file")  # of a CSV
LONGEST_PATH = 4096  # characters
SEGMENT = "segment"  # of a JSON; its first is 1


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn from `start` to `end`, in seconds; `speaker` is None where not known.

    `number` is the line or segment that it was read from, from 1.

    >>> Turn(0.5, 2.75, "anna")
    Turn(start=0.5, end=2.75, speaker='anna')
    """

    start: float
    end: float
    speaker: str | None
    number: int = field(default=0, compare=False, repr=False)


def read_turns(path: Path) -> tuple[dict[str, list[Turn]], str]:
    """Return the turns in a file by recording, and what they are numbered by: line or segment.

    The suffix determines the format: .csv, .json, and RTTM otherwise. Turns that name no recording
    are those of `ANY`. Raises `UserError` with the file, the line and the remedy.
    """
    formats = {".csv": (_read_csv, "row", "line"), ".json": (_read_whisperx, SEGMENT, SEGMENT)}
    rttm = (_read_rttm, "SPEAKER line", "line")
    read, what, numbered_by = formats.get(path.suffix.lower(), rttm)
    by_file: dict[str, list[Turn]] = {}
    for count, (file, turn) in enumerate(read(path)):
        if count == MOST_TURNS:
            raise UserError(
                f"{path}: it has more than {MOST_TURNS:,} turns; divide the file by recording."
            )
        by_file.setdefault(file, []).append(turn)
    if not by_file:
        raise UserError(f"{path}: it has no {what}; give the turns of a diarisation.")
    return by_file, numbered_by


def _read_rttm(path: Path) -> Iterator[tuple[str, Turn]]:
    for number, line in enumerate(_bytes(path).splitlines(), 1):
        # not at Unicode's spaces
        cells = [cell for cell in re.split(r"[ \t]+", line.decode()) if cell]
        if not cells or cells[0].startswith((";", "#")):
            continue
        where = f"{path}: line {number}"
        if cells[0] not in OBJECTS:
            raise UserError(
                f"{where}: '{shown(cells[0])}' is not an RTTM object type; each line begins with "
                "SPEAKER (a table of turns must be called .csv)."
            )
        if cells[0] != "SPEAKER":
            continue
        if not 8 <= len(cells) <= 10:
            raise UserError(
                f"{where}: it has {len(cells)} fields; give SPEAKER, file, channel, onset, "
                "duration, <NA>, <NA>, speaker, <NA>, <NA>, none of them with a space."
            )
        onset = _seconds(where, "onset", cells[3])
        end = onset + _seconds(where, "duration", cells[4])
        yield _name(where, "file", cells[1]), Turn(onset, end, _speaker(where, cells[7]), number)


def _read_csv(path: Path) -> Iterator[tuple[str, Turn]]:
    table = Rows(_bytes(path).decode(), 0, None)
    separator = detect_separator(table, ".csv")
    rows = table.split(separator)
    first, names = next(rows, (1, Cells()))
    places = _columns(path, first, [name or "" for name in names])
    for number, cells in rows:
        where = f"{path}: line {number}"
        if len(cells) != len(names):
            raise UserError(
                f"{where}: it has {len(cells)} cells and the header {len(names)}; give a cell for "
                "each column."
            )
        row = {name: cells[place] or "" for name, place in places.items()}
        if separator == ";":
            row |= {name: row[name].replace(",", ".") for name in ("start", "end")}
        start, end = (_seconds(where, name, row[name]) for name in ("start", "end"))
        file = _name(where, "file", row.get("file", ANY))
        yield file, _turn(where, start, end, row["speaker"], number)


def _columns(path: Path, line: int, header: Sequence[str]) -> dict[str, int]:
    """Return the places of the columns by their names."""
    if not header:
        raise UserError(f"{path}: it is empty; give a table with columns start, end and speaker.")
    names = [name.strip().casefold() for name in header]
    for name in COLUMNS:
        if names.count(name) > 1:
            raise UserError(
                f"{path}: line {line}: two columns are called '{name}'; rename one of them."
            )
        if name not in names and name != "file":
            raise UserError(
                f"{path}: line {line}: there is no column '{name}' among {listed(header, 8)}; name "
                "the columns start, end and speaker, in seconds."
            )
    return {name: names.index(name) for name in COLUMNS if name in names}


def _read_whisperx(path: Path) -> Iterator[tuple[str, Turn]]:
    remedy = "give the JSON that WhisperX writes"
    segments = parse_object(path, _bytes(path), remedy).get("segments")
    if not isinstance(segments, list):
        raise UserError(f"{path}: it has no list 'segments'; {remedy}.")
    for number, segment in enumerate(segments, 1):
        where = f"{path}: segment {number}"
        words = _object(where, segment).get("words") or ()
        if not isinstance(words, list | tuple):
            raise UserError(f"{where}: its words are not a list; {remedy}.")
        timed = [word for word in words if "start" in _object(where, word) and "end" in word]
        # a word without a speaker is one of the segment's
        by_speaker = groupby(timed, key=lambda word: word.get("speaker", segment.get("speaker")))
        spoken = [(speaker, [*group]) for speaker, group in by_speaker]
        for speaker, parts in spoken or [(segment.get("speaker"), [segment])]:
            times = [
                [_seconds(where, name, part.get(name)) for part in parts] for name in COLUMNS[:2]
            ]
            yield ANY, _turn(where, times[0][0], max(times[1]), speaker, number)


def _object(where: str, value: object) -> Mapping[str, object]:
    if isinstance(value, dict):
        return value
    raise UserError(f"{where}: it is not an object; give the JSON that WhisperX writes.")


def _turn(where: str, start: float, end: float, speaker: object, number: int) -> Turn:
    if end < start:
        raise UserError(
            f"{where}: it is from {start:g} to {end:g} s; give an end that is not before its start."
        )
    return Turn(start, end, _speaker(where, speaker), number)


def _speaker(where: str, name: object) -> str | None:
    if name is not None and not isinstance(name, str):
        raise UserError(f"{where}: its speaker is not text; give a name.")
    return None if not name or name == UNKNOWN else _name(where, "speaker", name)


def _name(where: str, what: str, text: str) -> str:
    """Check a name, and compose its letters; the file names of macOS have decomposed ones."""
    name = unicodedata.normalize("NFC", text)
    longest = LONGEST_PATH if what == "file" else LONGEST_NAME
    if len(name) > longest or not name.isprintable():
        raise UserError(
            f"{where}: the name of its {what} is long or not printable; give up to {longest} "
            "characters."
        )
    return name


def _seconds(where: str, what: str, value: object) -> float:
    return number_in(where, what, value, LATEST, "seconds")


def _bytes(path: Path) -> bytes:
    """Return the bytes of a file, which are UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"{path}: the turns cannot be read ({reason}); give an RTTM, CSV or JSON file."
        ) from error
    if len(data) > LARGEST:
        raise UserError(
            f"{path}: over {LARGEST >> 20} MB, the limit for turns; divide it by recording."
        )
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = len((data[: error.start] + b"x").splitlines())
        raise UserError(f"{path}: line {line}: it is not UTF-8; save the file as UTF-8.") from error
    return data.removeprefix(b"\xef\xbb\xbf")


def turns_of_list(given: Sequence[tuple[float, float, str | None]]) -> list[Turn]:
    """Check turns that were given in Python."""
    turns = []
    for number, turn in enumerate(given, 1):
        where = f"turns: number {number}"
        if not isinstance(turn, Sequence) or isinstance(turn, str) or len(turn) != 3:
            raise UserError(
                f"{where} is not (start, end, speaker); give seconds and a name or None."
            )
        start, end, speaker = turn
        try:
            first, last = float(start), float(end)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{where}: start and end are not numbers; give seconds.") from error
        if not 0 <= first <= last <= LATEST:
            raise UserError(
                f"{where} is from {first:g} to {last:g} s; give a start from 0 and an end behind "
                "it."
            )
        turns.append(Turn(first, last, None if speaker is None else str(speaker), number))
    return turns
