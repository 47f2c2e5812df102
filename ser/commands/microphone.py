"""`ser predict --mic`: a line for each window of what the microphone records."""

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import typer

from ser.commands.logs import NOTE, log
from ser.corpus.errors import UserError, plural

if TYPE_CHECKING:
    from ser.predict.audio_predictor import AudioPredictor
    from ser.predict.clips import Piece
    from ser.predict.result import Failure, Result


def predict_microphone(
    load: Callable[[], "AudioPredictor"],
    windows: tuple[float, float],
    form: str | None,
    of_files: Mapping[str, object],
) -> int:
    """Print the prediction for each window, until the microphone stops or Ctrl-C; return 0.

    Args:
        load: opens what predicts.
        windows: their length and hop in seconds.
        form: table, json or None.
        of_files: the options for files by name, with their values.

    Raises `UserError` without a microphone, for another format, and for options of files.
    """
    from ser.corpus.audio import SAMPLE_RATE
    from ser.predict.live import LivePrediction
    from ser.predict.microphone import Microphone

    _require_live_options(form, of_files)
    microphone = Microphone(*windows)  # before the models load, which takes seconds
    predictor = load()
    for note in predictor.notes:
        log.warning(note)
    predictor.load()
    seen = 0  # windows left out that have been reported
    with contextlib.suppress(KeyboardInterrupt), microphone as live:
        log.log(NOTE, "recording; stop with Ctrl-C.")
        for piece in live.windows():
            (result,) = predictor.stream([(piece.wave, SAMPLE_RATE)])
            prediction = LivePrediction.of(piece, result, live.left_out)
            typer.echo(prediction.to_json() if form == "json" else _line(piece, result))
            if live.left_out > seen:
                log.warning(
                    f"{plural(live.left_out - seen, 'window')} left out: the models are slower "
                    "than the audio; give a longer --hop."
                )
                seen = live.left_out
    return 0


def _require_live_options(form: str | None, of_files: Mapping[str, object]) -> None:
    for name, value in of_files.items():
        if value:
            raise UserError(f"--mic: {name} is for files; leave it out.")
    if form not in (None, "table", "json"):
        raise UserError(f"--mic: --format {form} is for files; choose table or json.")


def _line(piece: "Piece", result: "Result | Failure") -> str:
    """Return the window, and the prediction for it or why there is none."""
    from ser.predict.formats import label
    from ser.predict.result import Failure

    outcome = result.error if isinstance(result, Failure) else label(result)
    words = "" if isinstance(result, Failure) else result.transcript or ""
    return f"{piece.start:8.1f} –{piece.end:7.1f} s  {outcome}  {words}".rstrip()
