"""`ser predict`: the emotions of your own audio."""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ser.commands.help import command, resumable
from ser.commands.logs import log
from ser.commands.options import OUTPUT, Device, MinConfidence, OneHead, PublishedModel, RunFolder
from ser.commands.output import exit_code
from ser.commands.results import write_results
from ser.corpus.errors import UserError

if TYPE_CHECKING:
    from ser.predict.audio_predictor import AudioPredictor, StreamOptions
    from ser.predict.result import Failure, Result
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
    if not files:
        raise UserError("give FILES, folders, - for standard input, or --mic.")
    times = [time.perf_counter()]
    from ser.predict.clips import Segmentation
    from ser.predict.folder import search

    with _standard_input(files) as (places, read):
        audio = search(places)
        paths = audio.files
        if audio.note:
            log.warning(audio.note)
        form = form or _default(paths, files, out)
        # before the models load, which takes seconds
        _require_files(paths, files, form)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
        Segmentation(timeline, cut, window, hop)
        options: StreamOptions = {
            "timeline": timeline,
            "explain": explain,
            "one_speaker": one_speaker,
            "turns": _read_turns(turns, read, paths, one_speaker),
            "cut": cut,
            "window": window,
            "hop": hop,
        }
        resumed = out if form == "csv" and read is None else None
        lazy = resumed is not None  # of files that are all done nothing is loaded
        predictor = _open(lambda: load(lazy), times, whole=timing or not lazy)
        for note in predictor.notes:
            log.warning(note)
        if one_speaker and not predictor.by_speaker:
            log.warning("--one-speaker changes nothing: no head in use has `normalize: speaker`.")
        if resumed is not None:
            failed = _append(predictor, paths, resumed, options)
        else:
            results = _named(predictor.stream(paths, **options), read)
            speakers = turns is not None
            segments = timeline or speakers
            failed = write_results(
                predictor, results, form, out, segments=segments, speakers=speakers
            )
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


@contextlib.contextmanager
def _standard_input(files: list[str]) -> Iterator[tuple[list[Path], Path | None]]:
    """Yield the paths, and the file that standard input was written to, if `-` asks for it."""
    if "-" not in files:
        yield [Path(name) for name in files], None
        return
    with tempfile.TemporaryDirectory() as folder:
        read = Path(folder) / "stdin"
        with read.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [read if name == "-" else Path(name) for name in files], read


def _named(
    results: "Iterator[Result | Failure]", read: Path | None
) -> "Iterator[Result | Failure]":
    """Name the clip from standard input `-`."""
    for prediction in results:
        yield replace(prediction, path="-") if prediction.path == str(read) else prediction


def _read_turns(
    file: Path | None, read: Path | None, paths: list[Path], one_speaker: bool
) -> "Turns | None":
    """Read --turns and warn of what is unusual in it.

    `read` is the file of standard input, which has the turns of the only recording in them;
    turns that name no recording are for one file.
    """
    from ser.predict.turns import Turns

    if file is None:
        return None
    if one_speaker:
        raise UserError("--one-speaker and --turns are both given; give one of them.")
    turns = Turns.read(file)
    if not turns.named and len(paths) > 1:
        raise UserError(
            f"{file}: its turns name no recording, and there are {len(paths)} files; predict one "
            "file at a time, or give RTTM or a CSV with the column file."
        )
    if read is not None:
        turns = turns.also_for(read)
    for note in ("" if read else turns.unused(paths), turns.workload(paths)):
        if note:
            log.warning(note)
    return turns


def _require_files(paths: list[Path], files: list[str], form: Format) -> None:
    if "" in files:  # Path would take it for this folder
        raise UserError("FILES: a name is empty; give the name of a file or folder.")
    if not paths:
        raise UserError(f"there is no audio file in {', '.join(files)}.")
    if not any(path.exists() for path in paths):
        raise UserError(f"{', '.join(map(str, paths[:3]))}: no such file; check the name.")
    if form in ONE_FILE and len(paths) > 1:
        raise UserError(f"--format {form} takes one file, not {len(paths)}.")


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


def _open(
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
