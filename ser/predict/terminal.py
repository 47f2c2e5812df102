"""Results as a person reads them in a terminal: one clip in full, several as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ser.corpus.text_table import print_table
from ser.predict.formats import label, note_lines
from ser.predict.result import Result, most_probable, names_speakers

if TYPE_CHECKING:
    from rich.console import Console

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 40  # of a curve of attention


def print_results(results: Sequence[Result], console: "Console", segments: bool = False) -> None:
    """Print one clip in full, several as a table with a row each."""
    if len(results) == 1:
        _print_one(results[0], console, segments)
        return
    from rich.table import Table

    if any(names_speakers(result.segments) for result in results):
        table = Table("file", "seconds", "speaker", "emotion", "transcript")
        for result in results:
            for s in result.segments:
                span = f"{s.start:.1f} – {s.end:.1f}"
                table.add_row(result.path, span, s.speaker or "", label(s), s.transcript or "")
    else:
        table = Table("file", "seconds", "emotion", "transcript")
        for result in results:
            row = (result.path, f"{result.seconds:.1f}", label(result), result.transcript or "")
            table.add_row(*row)
    print_table(table, console)
    for line in _notes_of(results):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _notes_of(results: Sequence[Result]) -> list[str]:
    """Return the notes below a table: those of all results once, the others by file."""
    shared = [note for note in results[0].notes if all(note in r.notes for r in results)]
    own = [f"{r.path}: {n}" for r in results for n in r.notes if n not in shared]
    return [*note_lines(shared), *own]


def _print_one(result: Result, console: "Console", segments: bool) -> None:
    def show(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    show(f"{result.path}  {result.seconds:.1f} s  {label(result)}")
    ranked = sorted(result.probabilities.items(), key=lambda item: -item[1])
    for name, value in ranked:
        show(f"  {name:10} {value:5.2f} {'█' * round(30 * value)}")
    if result.emotion is not None:
        for name, value in result.attributes.items():
            show(f"  {name:10} {value:5.2f}")
    if result.transcript is not None:
        show(f"  “{result.transcript}”")
    if len(result.heads) > 1:
        others = [
            f"{name}: {most_probable(probabilities)}"
            for name, probabilities in result.heads.items()
            if name not in result.agreeing
        ]
        agreement = f"{len(result.agreeing)} of {len(result.heads)} heads agree"
        show("  " + agreement + (f" ({'; '.join(others)})" if others else ""))
    for name, attention in result.attention.items():
        if attention.times is not None:
            show(f"  {name:10} {_curve(attention.weights)}")
    if result.words:
        show("  " + " ".join(f"{w.word} {w.weight:.0%}" for w in result.words))
    if segments or len(result.segments) > 1:
        for segment in result.segments:
            span = f"{segment.start:8.1f} –{segment.end:7.1f} s"
            who = f"{segment.speaker}: " if segment.speaker else ""
            show(f"{span}  {who}{label(segment)}  {segment.transcript or ''}".rstrip())
    for line in note_lines(result.notes):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _curve(weights: np.ndarray) -> str:
    """Draw weights over time as a line of bars, scaled to the highest."""
    parts = np.array_split(weights, min(COLUMNS, len(weights)))
    heights = np.array([part.mean() for part in parts])
    return "".join(BARS[int(7 * height / heights.max())] for height in heights)
