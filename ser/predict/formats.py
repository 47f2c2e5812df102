"""Results as text: JSON, CSV, SRT subtitles, Praat's TextGrid, NIST's RTTM, and for people a table.

Windows overlap; subtitles, tiers and speaker turns may not, so there they meet in the middle of
what they share.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ser.predict.result import Result, Segment, Word, likeliest, rows_of

if TYPE_CHECKING:
    from rich.console import Console

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 40  # of a curve of attention


def to_json(result: Result) -> str:
    """Return one line of JSON; numbers of attention have six digits."""
    said = asdict(replace(result, segments=()))
    said["agreeing"] = result.agreeing
    said["segments"] = [_plain(segment) for segment in result.segments]
    return json.dumps(said, ensure_ascii=False)


def _plain(segment: Segment) -> dict[str, Any]:
    said = asdict(replace(segment, attention={}))
    said["words"] = [asdict(word) for word in segment.words]
    said["attention"] = {
        name: {
            "times": None if a.times is None else [round(t, 6) for t in a.times.tolist()],
            "weights": [round(w, 6) for w in a.weights.tolist()],
        }
        for name, a in segment.attention.items()
    }
    return said


def header(classes: Sequence[str], attributes: Sequence[str], segments: bool) -> list[str]:
    """Return the columns of `ser.predict.frame` before there is a result."""
    span = ["start", "end"] if segments else ["seconds"]
    return ["path", *span, "emotion", *(f"p.{c}" for c in classes), *attributes, "transcript"]


def to_csv(rows: Sequence[Sequence[Any]]) -> str:
    """Return lines of CSV; a float has six digits, None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in row])
    return text.getvalue()


def csv_rows(result: Result, segments: bool) -> str:
    """Return a result's lines of CSV, without a header."""
    return to_csv([list(row.values()) for row in rows_of(result, segments)])


def to_srt(result: Result) -> str:
    """Return subtitles: the emotion with its probability, and the words."""
    blocks = []
    for i, segment in enumerate(meeting(result.segments), 1):
        lines = [str(i), f"{_clock(segment.start)} --> {_clock(segment.end)}", _label(segment)]
        lines += [segment.transcript] if segment.transcript else []
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def to_textgrid(result: Result) -> str:
    """Return a TextGrid with the tiers emotion and, where words were read, transcript."""
    segments = meeting(result.segments)
    tiers = {"emotion": [segment.emotion or "" for segment in segments]}
    if result.transcript is not None:
        tiers["transcript"] = [segment.transcript or "" for segment in segments]
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {result.seconds:.3f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for i, (name, labels) in enumerate(tiers.items(), 1):
        intervals = _intervals(segments, labels, result.seconds)
        lines += [
            f"    item [{i}]:",
            '        class = "IntervalTier"',
            f'        name = "{name}"',
            "        xmin = 0",
            f"        xmax = {result.seconds:.3f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for j, (start, end, label) in enumerate(intervals, 1):
            quoted = label.replace('"', '""')
            lines += [
                f"        intervals [{j}]:",
                f"            xmin = {start:.3f}",
                f"            xmax = {end:.3f}",
                f'            text = "{quoted}"',
            ]
    return "\n".join(lines) + "\n"


def to_rttm(result: Result) -> str:
    """Return a line a segment, the emotion in the place of the speaker's name."""
    name = Path(result.path).stem.replace(" ", "_") or "audio"
    return "".join(
        f"SPEAKER {name} 1 {s.start:.3f} {s.end - s.start:.3f} <NA> <NA> {s.emotion} <NA> <NA>\n"
        for s in meeting(result.segments)
    )


FORMATS: dict[str, Callable[[Result], str]] = {
    "json": lambda result: to_json(result) + "\n",
    "srt": to_srt,
    "textgrid": to_textgrid,
    "rttm": to_rttm,
}


def meeting(segments: Sequence[Segment]) -> list[Segment]:
    """Return segments that do not overlap: those that did meet in the middle."""
    found = list(segments)
    for i in range(1, len(found)):
        if found[i].start < found[i - 1].end:
            middle = (found[i].start + found[i - 1].end) / 2
            found[i - 1], found[i] = (
                replace(found[i - 1], end=middle),
                replace(found[i], start=middle),
            )
    return found


def _intervals(
    segments: Sequence[Segment], labels: Sequence[str], seconds: float
) -> list[tuple[float, float, str]]:
    """Return intervals that cover everything from 0 on, as Praat needs; gaps have no label."""
    found, at = [], 0.0
    for segment, label in zip(segments, labels, strict=True):
        if segment.start - at > 1e-3:
            found.append((at, segment.start, ""))
        found.append((segment.start, segment.end, label))
        at = segment.end
    if seconds - at > 1e-3:
        found.append((at, seconds, ""))
    return found


def _clock(seconds: float) -> str:
    ms = round(seconds * 1000)
    hours, minutes = divmod(ms // 60_000, 60)
    return f"{hours:02}:{minutes:02}:{ms // 1000 % 60:02},{ms % 1000:03}"


def _label(of: Segment | Result) -> str:
    if of.emotion is None:
        return " ".join(f"{name} {value:.2f}" for name, value in of.attributes.items())
    return f"{of.emotion} ({of.probabilities[of.emotion]:.2f})"


def print_results(results: Sequence[Result], console: "Console", segments: bool = False) -> None:
    """Print one clip with all that is known of it, several as a table with a row each."""
    if len(results) == 1:
        _print_one(results[0], console, segments)
        return
    from rich.table import Table

    table = Table("file", "seconds", "emotion", "transcript")
    for result in results:
        row = (result.path, f"{result.seconds:.1f}", _label(result), result.transcript or "")
        table.add_row(*row)
    console.print(table)


def _print_one(result: Result, console: "Console", segments: bool) -> None:
    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    say(f"{result.path}  {result.seconds:.1f} s  {_label(result)}")
    ranked = sorted(result.probabilities.items(), key=lambda item: -item[1])
    for name, value in ranked:
        say(f"  {name:10} {value:5.2f} {'█' * round(30 * value)}")
    if result.emotion is not None:
        for name, value in result.attributes.items():
            say(f"  {name:10} {value:5.2f}")
    if result.transcript is not None:
        say(f"  “{result.transcript}”")
    if len(result.heads) > 1:
        others = [
            f"{name}: {likeliest(said)}"
            for name, said in result.heads.items()
            if name not in result.agreeing
        ]
        of = f"{len(result.agreeing)} of {len(result.heads)} heads agree"
        say("  " + of + (f" ({'; '.join(others)})" if others else ""))
    for name, looked in result.attention.items():
        if looked.times is not None:
            say(f"  {name:10} {curve(looked.weights)}")
    if result.words:
        say("  " + shaded(result.words))
    if segments or len(result.segments) > 1:
        for segment in result.segments:
            span = f"{segment.start:8.1f} –{segment.end:7.1f} s"
            say(f"{span}  {_label(segment)}  {segment.transcript or ''}".rstrip())


def curve(weights: np.ndarray) -> str:
    """Draw weights over time as a line of bars, the highest full."""
    parts = np.array_split(weights, min(COLUMNS, len(weights)))
    heights = np.array([part.mean() for part in parts])
    return "".join(BARS[int(7 * height / heights.max())] for height in heights)


def shaded(words: Sequence[Word]) -> str:
    """Return the words, each with its percentage of the attention."""
    return " ".join(f"{word.word} {word.weight:.0%}" for word in words)
