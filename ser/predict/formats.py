"""Results as text: JSON, CSV, SRT subtitles, Praat's TextGrid, NIST's RTTM.

Windows overlap; subtitles, tiers and speaker turns may not, so they are cut in the middle of the
overlap. Where the speakers are known, their turns stay as they are, as people do talk at once.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ser.predict.result import UNSURE, Result, Segment, names_speakers, rows_of
from ser.predict.turn_files import UNKNOWN


def to_json(result: Result) -> str:
    """Return one line of JSON; numbers of attention have six digits."""
    fields = asdict(replace(result, segments=()))
    fields["agreeing"] = result.agreeing
    fields["segments"] = [_plain(segment) for segment in result.segments]
    return json.dumps(fields, ensure_ascii=False)


def _plain(segment: Segment) -> dict[str, object]:
    fields = asdict(replace(segment, attention={}))
    fields["words"] = [asdict(word) for word in segment.words]
    fields["attention"] = {
        name: {
            "times": None if a.times is None else [round(t, 6) for t in a.times.tolist()],
            "weights": [round(w, 6) for w in a.weights.tolist()],
        }
        for name, a in segment.attention.items()
    }
    return fields


def header(
    classes: Sequence[str],
    attributes: Sequence[str],
    segments: bool,
    unsure: bool = False,
    speakers: bool = False,
) -> list[str]:
    """Return the columns of `ser.predict.frame` for a run.

    `unsure` with a `min_confidence`; `speakers` where turns are given, for segments.
    """
    span = ["start", "end", *(["speaker"] if speakers else [])] if segments else ["seconds"]
    probabilities = (f"p.{name}" for name in classes)
    emotion = ["emotion", "unsure"] if unsure else ["emotion"]
    return ["path", *span, *emotion, *probabilities, *attributes, "transcript", "notes"]


def to_csv(rows: Sequence[Sequence[object]]) -> str:
    """Return lines of CSV; floats have six digits, None is empty, booleans are true or false."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow(map(_cell, row))
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else value


def csv_rows(result: Result, segments: bool, speakers: bool = False) -> str:
    """Return the lines of CSV of a result, without a header."""
    return to_csv([list(row.values()) for row in rows_of(result, segments, speakers)])


def to_srt(result: Result) -> str:
    """Return subtitles: the emotion with its probability, and the words.

    SubRip has no comments, so the notes are lines of the first subtitle.
    """
    blocks = []
    for i, segment in enumerate(without_overlap(result.segments), 1):
        who = f"{segment.speaker}: " if segment.speaker else ""
        lines = [str(i), f"{_clock(segment.start)} --> {_clock(segment.end)}", who + label(segment)]
        lines += [segment.transcript] if segment.transcript else []
        lines += note_lines(result.notes) if i == 1 else []
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def to_textgrid(result: Result) -> str:
    """Return a TextGrid with the tiers emotion and, where there is one, transcript.

    Each known speaker has tiers of their own, called emotion (name) and transcript (name). Notes
    are a tier of that name with one interval over the whole clip: comments are lost when Praat
    saves a file, and few other readers know them.
    """
    intervals: dict[str, list[tuple[float, float, str]]] = {}
    for speaker in dict.fromkeys(segment.speaker for segment in result.segments):
        segments = without_overlap([s for s in result.segments if s.speaker == speaker])
        tiers = {"emotion": [segment.label or "" for segment in segments]}
        if result.transcript is not None:
            tiers["transcript"] = [segment.transcript or "" for segment in segments]
        for name, labels in tiers.items():
            tier = name if speaker is None else f"{name} ({speaker})"
            intervals[tier] = _intervals(segments, labels, result.seconds)
    if result.notes:
        intervals["notes"] = [(0.0, result.seconds, " ".join(result.notes))]
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {result.seconds:.3f}",
        "tiers? <exists>",
        f"size = {len(intervals)}",
        "item []:",
    ]
    for i, (name, spans) in enumerate(intervals.items(), 1):
        quoted = name.replace('"', '""')
        lines += [
            f"    item [{i}]:",
            '        class = "IntervalTier"',
            f'        name = "{quoted}"',
            "        xmin = 0",
            f"        xmax = {result.seconds:.3f}",
            f"        intervals: size = {len(spans)}",
        ]
        for j, (start, end, label) in enumerate(spans, 1):
            quoted = label.replace('"', '""')
            lines += [
                f"        intervals [{j}]:",
                f"            xmin = {start:.3f}",
                f"            xmax = {end:.3f}",
                f'            text = "{quoted}"',
            ]
    return "\n".join(lines) + "\n"


def to_rttm(result: Result) -> str:
    """Return a line for each segment, with the emotion in place of the speaker's name.

    Where speakers are known, their names are in that place and the emotion is the subtype. Notes
    are comments (`;;`) before them.
    """
    name = Path(result.path).stem.replace(" ", "_") or "audio"
    named = names_speakers(result.segments)
    lines = [f";; {note}\n" for note in note_lines(result.notes)]
    for s in without_overlap(result.segments):
        speaker = "_".join((s.speaker or UNKNOWN).split())
        names = f"{s.label} {speaker}" if named else f"{UNKNOWN} {s.label}"
        span = f"{s.start:.3f} {s.end - s.start:.3f}"
        lines.append(f"SPEAKER {name} 1 {span} <NA> {names} <NA> <NA>\n")
    return "".join(lines)


FORMATS: dict[str, Callable[[Result], str]] = {
    "json": lambda result: to_json(result) + "\n",
    "srt": to_srt,
    "textgrid": to_textgrid,
    "rttm": to_rttm,
}


def without_overlap(segments: Sequence[Segment]) -> list[Segment]:
    """Cut overlapping segments in the middle of their overlap, unless their speakers are known."""
    cut = list(segments)
    if names_speakers(segments):
        return cut
    for i in range(1, len(cut)):
        if cut[i].start < cut[i - 1].end:
            middle = (cut[i].start + cut[i - 1].end) / 2
            cut[i - 1], cut[i] = replace(cut[i - 1], end=middle), replace(cut[i], start=middle)
    return cut


def _intervals(
    segments: Sequence[Segment], labels: Sequence[str], seconds: float
) -> list[tuple[float, float, str]]:
    """Return intervals that cover the whole clip, as Praat needs; gaps have no label."""
    intervals, at = [], 0.0
    for segment, label in zip(segments, labels, strict=True):
        if segment.start - at > 1e-3:
            intervals.append((at, segment.start, ""))
        intervals.append((segment.start, segment.end, label))
        at = segment.end
    if seconds - at > 1e-3:
        intervals.append((at, seconds, ""))
    return intervals


def _clock(seconds: float) -> str:
    ms = round(seconds * 1000)
    hours, minutes = divmod(ms // 60_000, 60)
    return f"{hours:02}:{minutes:02}:{ms // 1000 % 60:02},{ms % 1000:03}"


def note_lines(notes: Sequence[str]) -> list[str]:
    """Return a line for each note."""
    return [f"Note: {' '.join(note.split())}" for note in notes]


def label(prediction: Segment | Result) -> str:
    """Return the emotion with its probability, or the attributes."""
    if prediction.emotion is None:
        return " ".join(f"{name} {value:.2f}" for name, value in prediction.attributes.items())
    probability = f"{prediction.probabilities[prediction.emotion]:.2f}"
    if prediction.unsure:
        return f"{UNSURE} ({prediction.emotion} {probability})"
    return f"{prediction.emotion} ({probability})"
