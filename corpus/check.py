"""Checks of a corpus before training: decode every clip, count every label.

Errors spoil a result (a clip that does not decode, a speaker on both sides of a split, the same
audio in train and test, a class that cannot be learned); warnings deserve a look. Audio is decoded
in threads (libsndfile releases the GIL) and compared by a digest of the decoded samples, so a copy
is found under another name and in another container; a signal that is not usable as speech
(`ser.corpus.signal`) is a warning. Costs one full read, or a sample of it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ser.corpus.audio import SAMPLE_RATE, ChannelPower, blocks, require_sound
from ser.corpus.errors import AudioError, UserError, plural
from ser.corpus.labels import Problem, label_problems
from ser.corpus.lookahead import ahead
from ser.corpus.manifest import Manifest, evenly_spaced
from ser.corpus.progress import steps
from ser.corpus.signal import SignalMeter, SignalProblem
from ser.corpus.text_table import print_table

if TYPE_CHECKING:
    from rich.console import Console

USED = ("train", "dev", "test")  # splits for training or evaluation
BLOCK = 30.0  # s of a clip in memory
SLACK = 0.05  # s; how far behind its file an `end` may lie, since tables round
DIGEST = 16  # bytes
AHEAD = 64  # clips that are decoded before their turn
PROBLEMS = pl.Schema(dict.fromkeys(("utterance", "problem", "detail", "severity"), pl.String()))


@dataclass(frozen=True)
class Report:
    """The results of `check`.

    `problems`: utterance ("" for a class), problem, detail, severity (error | warning), errors
    first. `classes`: class, train, dev, test, unsplit, total; the last row, "(none)", counts the
    utterances without an emotion. `seconds` is the audio that could be read, `decoded` the number
    of clips that were decoded.
    """

    problems: pl.DataFrame
    classes: pl.DataFrame
    seconds: float
    decoded: int

    @property
    def errors(self) -> int:
        """Count the problems that spoil a result."""
        return self.problems.filter(pl.col("severity") == "error").height


@dataclass(frozen=True)
class _Clip:
    seconds: float = 0.0
    digest: bytes = bytes(DIGEST)  # zeros when it could not be read
    error: AudioError | None = None
    problems: tuple[SignalProblem, ...] = ()


def check(
    manifest: Manifest,
    audio_folder: str | Path,
    shortest: float = 0.1,
    longest: float = 30.0,
    *,
    threads: int = 4,
    sample: int | None = None,
) -> Report:
    """Decode every clip and test every rule.

    `shortest` and `longest` are seconds; clips beyond them are warnings. With `sample` only so many
    clips are decoded, evenly spaced in the manifest. Beside the manifest, memory holds 16 bytes a
    clip, and the problems. Never raises for a bad clip; raises `UserError` when the audio folder
    is missing.
    """
    folder = Path(audio_folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such audio folder; set corpus.audio in pipeline.yaml to the "
            f"folder that the paths in {manifest.source} start from."
        )
    rows = manifest.frame.select("utterance", "path", "start", "end", "split")
    rows = rows if sample is None else rows[evenly_spaced(rows.height, sample)]
    decoded = ahead(partial(_clip, folder), rows.iter_rows(named=True), threads, AHEAD)
    clips: Iterable[_Clip] = steps(decoded, "check", rows.height, unit="clip")
    problems: list[Problem] = []
    digests, seconds = bytearray(), 0.0
    for row, clip in zip(rows.iter_rows(named=True), clips, strict=True):
        if clip.error:
            detail = ": ".join(filter(None, (row["path"], clip.error.detail)))
            problems.append((row["utterance"], clip.error.problem, detail, "error"))
        else:
            problems += _unusual(row, clip, shortest, longest)
        digests += clip.digest
        seconds += clip.seconds
    problems += [
        *_duplicates(rows, digests),
        *_shared_speakers(manifest),
        *_untrainable(manifest),
        *_unknown_speakers(manifest),
        *label_problems(manifest),
    ]
    frame = pl.DataFrame(problems, schema=PROBLEMS, orient="row")
    return Report(
        problems=frame.sort("severity", maintain_order=True),
        classes=class_table(manifest),
        seconds=seconds,
        decoded=rows.height,
    )


def class_table(manifest: Manifest) -> pl.DataFrame:
    """Count utterances: a row for every class in class order and "(none)", a column a split.

    Where a class is itself called "(none)", the last row is "((none))".
    """
    unlabelled = "(none)"
    while unlabelled in manifest.classes:
        unlabelled = f"({unlabelled})"
    split = manifest.frame["split"]
    columns = {name or "unsplit": manifest.class_counts(split == name) for name in (*USED, "")}
    columns["total"] = manifest.class_counts()
    return pl.DataFrame({"class": [*manifest.classes, unlabelled], **columns})


def require_speaker_disjoint(manifest: Manifest) -> None:
    """Raise `UserError` when a speaker appears in more than one of train, dev and test."""
    for speaker, splits, _ in _speakers_in_two(manifest):
        raise UserError(
            f"{manifest.source}: speaker '{speaker}' is in {' and '.join(splits)}, so scores would "
            "be too good; move all of a speaker's utterances to one split."
        )


def render(report: Report, console: "Console", examples: int = 20) -> None:
    """Print the class table and the problems (at most `examples` of each kind) with rich."""
    from rich.table import Table

    clips = report.classes["total"].sum()
    if report.decoded < clips:
        console.print(f"{report.decoded:,} of {clips:,} clips were decoded, evenly spaced.")
    table = Table(title=f"Utterances ({report.seconds / 3600:.2f} h of audio)")
    for name in report.classes.columns:
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in report.classes.iter_rows():
        table.add_row(*map(str, row))
    print_table(table, console)
    if report.problems.is_empty():
        console.print("No problems found.")
        return
    warnings = report.problems.height - report.errors
    table = Table("severity", "problem", "utterance", "detail")
    table.title = f"Problems ({plural(report.errors, 'error')}, {plural(warnings, 'warning')})"
    for group in report.problems.partition_by("severity", "problem", maintain_order=True):
        for utterance, problem, detail, severity in group.head(examples).iter_rows():
            table.add_row(severity, problem, utterance, detail)
        if group.height > examples:
            table.add_row("", "", f"… and {group.height - examples} more", "")
    print_table(table, console)


_Row = dict[str, Any]


def _clip(folder: Path, row: _Row) -> _Clip:
    digest, meter, channels = hashlib.blake2b(digest_size=DIGEST), SignalMeter(), ChannelPower()
    try:
        for block in blocks(folder / row["path"], BLOCK, row["start"], row["end"], channels):
            digest.update(block.tobytes())
            meter.add(block)
        require_sound(meter.samples, meter.peak > 0, channels)
    except AudioError as error:
        return _Clip(error=error)
    problems = tuple(meter.problems(channels.powers))
    return _Clip(meter.samples / SAMPLE_RATE, digest.digest(), problems=problems)


def _unusual(row: _Row, clip: _Clip, shortest: float, longest: float) -> Iterable[Problem]:
    for problem in clip.problems:
        yield row["utterance"], problem.kind, f"{row['path']}: {problem.sentence}", "warning"
    if clip.seconds < shortest:
        detail = f"{clip.seconds:.3f} s, less than {shortest:g} s"
        yield row["utterance"], "too short", detail, "warning"
    if clip.seconds > longest:
        detail = f"{clip.seconds:.1f} s, more than {longest:g} s"
        yield row["utterance"], "too long", detail, "warning"
    if row["end"] is not None and row["end"] - (row["start"] or 0) > clip.seconds + SLACK:
        detail = f"end is {row['end']:g} s, but the audio stops {clip.seconds:.2f} s from start"
        yield row["utterance"], "cut by the end of its file", detail, "warning"


def _duplicates(rows: pl.DataFrame, digests: bytearray) -> Iterable[Problem]:
    """Yield the clips that are copies; `digests` are those of all rows, back to back."""
    halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    digest = pl.DataFrame({"first": halves[:, 0], "second": halves[:, 1]})
    read = pl.any_horizontal(pl.all() != 0)
    copied = digest.select(read & pl.struct(pl.all()).is_duplicated()).to_series()
    copies: dict[tuple[int, int], list[_Row]] = {}
    keys = digest.filter(copied).rows()
    for row, key in zip(rows.filter(copied).iter_rows(named=True), keys, strict=True):
        earlier = copies.setdefault(key, [])
        # A copy in another used split is named first: that is the grave case.
        across = [s for s in earlier if row["split"] and s["split"] not in ("", row["split"])]
        if across:
            detail = f"{row['split']}, and in {across[0]['split']} as '{across[0]['utterance']}'"
            yield row["utterance"], "duplicate audio", detail, "error"
        elif earlier:
            detail = f"same as '{earlier[0]['utterance']}'"
            yield row["utterance"], "duplicate audio", detail, "warning"
        earlier.append(row)


def _speakers_in_two(manifest: Manifest) -> list[tuple[str, list[str], str]]:
    """List (speaker, its used splits in order, an utterance of the last of them)."""
    frame = manifest.frame.select("utterance", "speaker", "split")
    frame = frame.filter(pl.col("split").is_in(USED) & pl.col("speaker").is_not_null())
    frame = (
        frame.group_by("speaker", "split", maintain_order=True)
        .agg(pl.col("utterance").first())
        .sort(pl.col("split").cast(pl.Enum(USED)), maintain_order=True)
        .group_by("speaker", maintain_order=True)
        .agg("split", pl.col("utterance").last())
        .filter(pl.col("split").list.len() > 1)
        .sort("speaker")
    )
    return frame.rows()


def _shared_speakers(manifest: Manifest) -> Iterable[Problem]:
    for speaker, splits, utterance in _speakers_in_two(manifest):
        detail = f"speaker '{speaker}' is in {' and '.join(splits)}"
        yield utterance, "speaker in two splits", detail, "error"


def _untrainable(manifest: Manifest) -> Iterable[Problem]:
    in_train = manifest.frame["split"] == "train"
    if in_train.any():
        for name, count in zip(manifest.classes, manifest.class_counts(in_train), strict=False):
            if not count:
                yield "", "class without training utterance", f"class '{name}'", "error"


def _unknown_speakers(manifest: Manifest) -> Iterable[Problem]:
    unknown = manifest.frame.filter(pl.col("speaker").is_null())
    for split in USED:
        rows = unknown.filter(pl.col("split") == split)["utterance"]
        if len(rows):
            detail = f"the first of {len(rows)} in {split}"
            yield rows[0], "unknown speaker", detail, "warning"
