"""Predictions on standard output or in a file, as they come."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ser.commands.output import console

if TYPE_CHECKING:
    from ser.predict.audio_predictor import AudioPredictor, StreamOptions
    from ser.predict.result import Failure, Result
    from ser.predict.sources import ClipInput


def _opened(out: Path | None) -> AbstractContextManager[IO[str]]:
    if out is None:
        return nullcontext(sys.stdout)
    return out.open("w", encoding="utf-8", errors="backslashreplace")


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

    speakers = options["turns"] is not None
    segments = options["timeline"] or speakers
    failed: list[Failure] = []
    kept: list[Result] = []
    with _opened(out) as file:
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
            print_results(kept, console(file=file if out else None), segments)
    return failed
