"""`ser predict`: the emotions of own audio; `ser pack`: all that it needs, as one file."""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ser.commands.options import console, device_option, exit_code

if TYPE_CHECKING:
    from ser.predict.predictor import Predictor
    from ser.predict.result import Failure, Result

FORMATS = ["table", "json", "csv", "srt", "textgrid", "rttm"]
ONE_FILE = ("srt", "textgrid")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES|FOLDER|-")
@click.option(
    "--run", type=Path, default=Path("runs/demo"), show_default=True, help="A trained run."
)
@click.option("--head", help="Ask this head alone; by default the stack.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="table or csv by default.")
@click.option("--out", type=Path, help="Write there; a .csv goes on where it was.")
@click.option("--timeline", is_flag=True, help="Say it by segment; audio over 30 s is cut anyway.")
@click.option("--explain", is_flag=True, help="Say where the heads looked (table and json).")
@click.option("--cut", type=click.Choice(["auto", "speech", "windows"]), default="auto")
@click.option("--window", type=float, default=10.0, show_default=True, help="Seconds.")
@click.option("--hop", type=float, default=5.0, show_default=True, help="Seconds.")
@click.option("--timing", is_flag=True, help="Say on standard error where the time went.")
@device_option
def predict(
    files: tuple[str, ...],
    *,
    run: Path,
    head: str | None,
    form: str | None,
    out: Path | None,
    device: str,
    timing: bool,
    **options: Any,
) -> int:
    """Say which emotions are heard in FILES, in all audio of a FOLDER, or on standard input (-).

    One file is shown as a table, many as CSV; JSON is one object a line. With `--out x.csv` files
    that it holds already are skipped, and those that cannot be used are listed in x.failed.csv.
    """
    times = [time.perf_counter()]
    from ser.predict.clips import Cutting
    from ser.predict.folder import audio_files, predict_files

    with _standard_input(files) as (places, read):
        paths = audio_files(places)
        form = form or _default(paths, files, out)
        if not paths:
            raise click.UsageError(f"there is no audio file in {', '.join(files)}")
        if form in ONE_FILE and len(paths) > 1:
            raise click.UsageError(f"--format {form} is of one file, and these are {len(paths)}")
        Cutting(options["timeline"], options["cut"], options["window"], options["hop"])
        predictor = _open(run, head, device, times)
        if form == "csv" and out is not None and read is None:
            failed = predict_files(predictor, paths, out, **options)
        else:
            results = _named(predictor.each(paths, **options), read)
            failed = _write(predictor, results, form, out, options["timeline"])
        times.append(time.perf_counter())
    for each in failed:
        click.echo(f"ser: {each.path}: {each.error}", err=True)
    if timing:
        spans = zip(("import", "load", "predict"), times, times[1:], strict=False)
        click.echo(", ".join(f"{name} {b - a:.2f} s" for name, a, b in spans), err=True)
    return exit_code(failed)


@contextlib.contextmanager
def _standard_input(files: tuple[str, ...]) -> Iterator[tuple[list[Path], Path | None]]:
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
    """Call what was read from standard input `-`."""
    for result in results:
        yield replace(result, path="-") if result.path == str(read) else result


def _default(paths: list[Path], files: tuple[str, ...], out: Path | None) -> str:
    if out is not None and out.suffix[1:] in FORMATS:
        return out.suffix[1:]
    if out is not None:
        return "textgrid" if out.suffix == ".TextGrid" else "csv"
    folder = any(Path(name).is_dir() for name in files)
    return "table" if not folder and (len(paths) == 1 or sys.stdout.isatty()) else "csv"


def _open(run: Path, head: str | None, device: str, times: list[float]) -> "Predictor":
    """Open the run and load its models; `times` get when each was done."""
    import ser
    import ser.predict.predictor  # which imports torch

    times.append(time.perf_counter())
    predictor = ser.load(run, device, head)
    predictor.load()
    times.append(time.perf_counter())
    return predictor


def _write(
    predictor: "Predictor",
    results: "Iterator[Result | Failure]",
    form: str,
    out: Path | None,
    timeline: bool,
) -> "list[Failure]":
    """Write every result as it comes, a table at the end; return what failed."""
    from ser.predict.formats import FORMATS as WRITE
    from ser.predict.formats import csv_rows, header, print_results, to_csv
    from ser.predict.result import Failure

    failed: list[Failure] = []
    kept: list[Result] = []
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(out.open("w", encoding="utf-8")) if out else sys.stdout
        if form == "csv":
            file.write(to_csv([header(predictor.classes, predictor.attributes, timeline)]))
        for result in results:
            if isinstance(result, Failure):
                failed.append(result)
            elif form == "table":
                kept.append(result)
            else:
                write = WRITE.get(form)
                file.write(write(result) if write else csv_rows(result, timeline))
                file.flush()
        if kept:
            from rich.console import Console

            print_results(kept, Console(file=file) if out else console(), timeline)
    return failed


@click.command()
@click.argument("run", type=Path, required=False)
@click.option("-o", "--out", type=Path, help="The file to write, as bundle.ser.")
@click.option("--embed", is_flag=True, help="Put the foundation models in; else they are named.")
@click.option("--show", type=Path, help="Check this bundle and print its card; packs nothing.")
def pack(run: Path | None, *, out: Path | None, embed: bool, show: Path | None) -> None:
    """Pack RUN into one file that `ser predict --run` and `ser.load` take like its folder."""
    if (show is None) == (run is None) or (run is None) != (out is None):
        raise click.UsageError("give RUN and -o bundle.ser, or --show bundle.ser")
    if show is not None:
        _show(show)
        return
    from ser.predict.packing import pack as write

    assert run is not None and out is not None
    about = write(run, out, embed=embed)
    packed = {f.model for f in about.features.values() if f.model and not f.embedded}
    click.echo(f"{out}: {_summary(out, len(about.members))}")
    if packed:
        click.echo(f"who uses it fetches {', '.join(sorted(packed))}; --embed packs them too")


def _show(path: Path) -> None:
    from corpus.errors import UserError
    from ser.predict.bundle import CARD, open_bundle

    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give a bundle of `ser pack`.")
    bundle = open_bundle(path)
    card = (bundle.folder / CARD).read_text(encoding="utf-8")
    # a terminal must not be told anything by a file of somebody else's
    click.echo("".join(c for c in card if c.isprintable() or c == "\n"))
    click.echo(f"{path}: whole, {_summary(path, len(bundle.about.members))}")


def _summary(path: Path, members: int) -> str:
    from ser.predict.bundle import digest_of

    with path.open("rb") as file:
        digest = digest_of(file)
    return f"{members} members, {path.stat().st_size / 1e6:.1f} MB, sha256 {digest}"
