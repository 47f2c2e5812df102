"""`ser predict`: the emotions of your own audio."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ser.commands.help import command, resumable
from ser.commands.logs import log
from ser.commands.options import OUTPUT, Device, MinConfidence, OneHead, PublishedModel, RunFolder
from ser.commands.output import console, exit_code
from ser.corpus.errors import UserError

if TYPE_CHECKING:
    from ser.predict.audio_predictor import AudioPredictor, StreamOptions
    from ser.predict.result import Failure, Result
    from ser.predict.sources import ClipInput
    from ser.predict.turns import Turns

Format = Literal["table", "json", "csv", "srt", "textgrid", "rttm"]
FORMATS: dict[str, Format] = {
    "": "csv",
    ".txt": "table",
    ".json": "json",
    ".csv": "csv",
    ".srt": "srt",
    ".textgrid": "textgrid",
    ".rttm": "rttm",
}  # by the suffix of --out
ONE_FILE = ("srt", "textgrid")

app = typer.Typer()


@command(
    app,
    "ser predict clip.wav\n"
    "ser predict clip.wav --run runs/mine\n"
    "ser predict recordings --run model.ser --out emotions.csv\n"
    "ser predict talk.mp3 --run model.ser --timeline --format srt\n"
    "ser predict clip.wav --min-confidence 0\n"
    "ser predict --mic --window 3 --hop 1\n"
    "ser predict clip.wav --model audeering-msp-dim",
    section="Predict",
)
def predict(
    files: list[str] | None = None,
    *,
    mic: bool = False,
    run: RunFolder = None,
    head: OneHead = None,
    model: PublishedModel = None,
    min_confidence: MinConfidence = None,
    form: Format | None = None,
    out: Annotated[Path | None, OUTPUT] = None,
    timeline: bool = False,
    one_speaker: bool = False,
    turns: Path | None = None,
    explain: bool = False,
    cut: Literal["auto", "speech", "windows"] = "auto",
    window: float = 10.0,
    hop: float = 5.0,
    timing: bool = False,
    device: Device = "auto",
) -> int:
    """Predict the emotions in audio.

    FILES are audio files, folders that are searched for audio, or - for standard input. One file is
    shown as a table, many as CSV; JSON is one object a line. With `--out x.csv` files that it
    already holds are skipped, and files that cannot be used are listed in x.failed.csv.

    Args:
        files (FILES|FOLDER|-): Audio files, folders, or standard input; by default --mic is needed.
        mic: Record from the microphone, and predict each window until Ctrl-C.
        form (--format): Format of the output; by default table for one file and csv for many.
        out (FILE): File to write, in the format of its suffix; a .csv is resumed. By default
            standard output.
        timeline: Report by segment; audio over 30 s is segmented in any case.
        one_speaker: All audio is of one speaker, whose statistics heads with normalize: speaker
            use.
        turns (FILE): Who speaks when, as a diarisation gives it: .rttm, .csv with start, end and
            speaker, or WhisperX's .json; report each turn with its speaker. By default speakers are
            not known.
        explain: Report where the heads attended to (table and json).
        cut: How long audio is segmented: at speech, or in windows; auto: at speech where silero-vad
            is installed.
        window (SECONDS): Length of a window, in seconds.
        hop (SECONDS): Time from one window to the next, in seconds.
        timing: Report the time of each step on standard error.
    """
    import ser

    def load(lazy: bool = False) -> "AudioPredictor":
        return ser.load(run, device, head, min_confidence, model=model, lazy=lazy)

    if mic:
        from ser.commands.microphone import predict_microphone

        of_files = {"FILES": files, "--out": out, "--timeline": timeline, "--explain": explain}
        of_files |= {"--one-speaker": one_speaker, "--turns": turns, "--timing": timing}
        of_files |= {"--cut": cut != "auto"}
        return predict_microphone(load, (window, hop), form, of_files)
    times = [time.perf_counter()]
    from ser.predict.audio_predictor import StreamOptions
    from ser.predict.clips import Segmentation

    files = files or []
    paths = _find(files)
    form = form or _default(paths, files, out)
    # what follows is refused before the models load, which takes seconds
    if form in ONE_FILE and len(paths) > 1:
        raise UserError(f"--format {form} takes one file, not {len(paths)}.")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    Segmentation(timeline, cut, window, hop)
    clips = _read_clips(paths, files)
    spoken = _read_turns(turns, clips, one_speaker)
    options = StreamOptions(timeline=timeline, explain=explain, one_speaker=one_speaker)
    options |= {"turns": spoken, "cut": cut, "window": window, "hop": hop}
    resumed = out if form == "csv" and "-" not in files else None
    lazy = resumed is not None  # of files that are all done nothing is loaded
    predictor = _open_predictor(lambda: load(lazy), times, whole=timing or not lazy)
    for note in predictor.notes:
        log.warning(note)
    if one_speaker and not predictor.by_speaker:
        log.warning("--one-speaker changes nothing: no head in use has `normalize: speaker`.")
    if resumed is not None:
        failed = _append(predictor, paths, resumed, options)
    else:
        failed = write_results(predictor, clips, options, form, out)
    times.append(time.perf_counter())
    for failure in failed:
        log.error(f"{failure.path}: {failure.error}")
    if timing:
        spans = zip(("import", "load", "predict"), times, times[1:], strict=False)
        typer.echo(", ".join(f"{name} {b - a:.2f} s" for name, a, b in spans), err=True)
    return exit_code(failed)


def _append(
    predictor: "AudioPredictor", paths: list[Path], out: Path, options: "StreamOptions"
) -> "list[Failure]":
    """Predict what a CSV file does not hold yet; return the failures."""
    from ser.predict.folder import contents, predict_files

    with resumable():
        failed = predict_files(predictor, paths, out, **options)
    log.info("%s: %s", out, contents(out))
    return failed


def write_results(
    predictor: "AudioPredictor",
    clips: "Sequence[ClipInput]",
    options: "StreamOptions",
    form: str,
    out: Path | None,
) -> "list[Failure]":
    """Predict clips and write every result as it comes, a table at the end; return what failed."""
    from ser.predict.formats import FORMATS as WRITE
    from ser.predict.formats import csv_rows, header, to_csv
    from ser.predict.result import Failure
    from ser.predict.terminal import print_results

    speakers = options.get("turns") is not None
    segments = options.get("timeline", False) or speakers
    failed: list[Failure] = []
    kept: list[Result] = []
    opened = out.open("w", encoding="utf-8", errors="backslashreplace") if out else None
    with opened or nullcontext(sys.stdout) as file:
        if form == "csv":
            unsure = predictor.min_confidence is not None
            columns = header(predictor.classes, predictor.attributes, segments, unsure, speakers)
            file.write(to_csv([columns]))
        for prediction in predictor.stream(clips, **options):
            if isinstance(prediction, Failure):
                failed.append(prediction)
            elif form == "table":
                kept.append(prediction)
            else:
                write = WRITE.get(form)
                file.write(write(prediction) if write else csv_rows(prediction, segments, speakers))
                file.flush()
        if kept:
            print_results(kept, console(file=opened), segments)
    return failed


def _find(files: list[str]) -> list[Path]:
    """Return the audio files that a call names, and warn of those in folders that are skipped."""
    from ser.predict.folder import search

    if not files:
        raise UserError("give FILES, folders, - for standard input, or --mic.")
    if "" in files:  # Path would take it for this folder
        raise UserError("FILES: a name is empty; give the name of a file or folder.")
    audio = search(map(Path, files))
    if audio.note:
        log.warning(audio.note)
    if not audio.files:
        raise UserError(f"there is no audio file in {', '.join(files)}.")
    if "-" not in files and not any(path.exists() for path in audio.files):
        names = ", ".join(map(str, audio.files[:3]))
        raise UserError(f"{names}: no such file; check the name.")
    return audio.files


def _read_clips(paths: list[Path], files: list[str]) -> "list[ClipInput]":
    """Return the clips of a call; standard input, if `-` asks for it, is read to its end."""
    from ser.predict.sources import read_source

    clips = [read_source(path) for path in paths]
    if "-" in files:
        clips[paths.index(Path("-"))] = replace(read_source(sys.stdin.buffer), name="-")
    return clips


def _read_turns(
    file: Path | None, clips: "Sequence[ClipInput]", one_speaker: bool
) -> "Turns | None":
    """Read --turns and warn of what is unusual in it.

    Standard input has the turns of the only recording in them; turns that name no recording are for
    one file.
    """
    from ser.predict.turns import Turns

    if file is None:
        return None
    if one_speaker:
        raise UserError("--one-speaker and --turns are both given; give one of them.")
    turns = Turns.read(file)
    if not turns.named and len(clips) > 1:
        raise UserError(
            f"{file}: its turns name no recording, and there are {len(clips)} files; predict one "
            "file at a time, or give RTTM or a CSV with the column file."
        )
    names = [clip.name for clip in clips]
    if "-" in names:
        turns = turns.also_for("-")
    for note in ("" if "-" in names else turns.unused(names), turns.workload(clips)):
        if note:
            log.warning(note)
    return turns


def _default(paths: list[Path], files: list[str], out: Path | None) -> Format:
    """Return the format of a call that names none."""
    if out is not None:
        form = FORMATS.get(out.suffix.lower())
        if form is None:
            raise UserError(
                f"--out {out}: give a name that ends in .csv, .json, .srt, .TextGrid, .rttm or "
                ".txt, or a format with --format."
            )
        return form
    folder = any(Path(name).is_dir() for name in files)
    return "table" if not folder and (len(paths) == 1 or sys.stdout.isatty()) else "csv"


def _open_predictor(
    load: "Callable[[], AudioPredictor]", times: list[float], *, whole: bool
) -> "AudioPredictor":
    """Open what predicts, `whole` with its models; append to `times` when each was done."""
    import ser.predict.predictor  # noqa: F401 (part of what is imported)

    times.append(time.perf_counter())
    predictor = load()
    if whole:
        predictor.load()
    times.append(time.perf_counter())
    return predictor
