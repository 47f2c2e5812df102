"""Progress of heads in training: a live table in a terminal, a line for each head elsewhere."""

import logging
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.table import Table

from ser.commands.logs import log, result
from ser.commands.output import console
from ser.corpus.progress import is_shown
from ser.stages.heads import Callbacks, describe_head

if TYPE_CHECKING:
    from ser.heads.run import HeadReport, Progress


class LiveHeads:
    """A live table of the heads in training: fold, epoch, dev score, time left.

    The time left follows from the last epoch's time and ignores early stopping. Heads that are done
    are printed above the table, and so are other lines. With `quiet` they are details, as standard
    output is for something else.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._heads: dict[str, tuple[Progress, float]] = {}  # with the seconds of the last epoch
        self._console = console()
        self._quiet = quiet
        shown = self._console.is_terminal and is_shown() and not quiet
        self._live = Live(console=self._console, transient=True) if shown else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @property
    def callbacks(self) -> Callbacks:
        """Return the functions by which it follows a run."""
        return Callbacks(self.after_epoch, self.finish, self.drop)

    def log(self, line: str) -> None:
        """Print a line of progress above the table."""
        log.log(logging.DEBUG if self._quiet else logging.INFO, "%s", line)

    def after_epoch(self, progress: "Progress") -> None:
        """Update a head's row."""
        before = self._heads[progress.head][0].seconds if progress.head in self._heads else 0.0
        # fewer seconds than before: its worker died, and another began
        took = progress.seconds - (before if before <= progress.seconds else 0.0)
        self._heads[progress.head] = (progress, took)
        self._show()

    def finish(self, report: "HeadReport") -> "HeadReport":
        """Print the outcome of a head's training, and return the report."""
        self._heads.pop(report.name, None)
        if self._quiet:
            log.debug("%s", describe_head(report))
        else:
            result(describe_head(report))
        self._show()
        return report

    def drop(self, name: str) -> None:
        """Take a head or a fine-tuned model out of the table."""
        self._heads.pop(name, None)
        self._show()

    def table(self) -> Table:
        """Return the table as it is now."""
        table = Table("head", "fold", "epoch", "dev score", "left")
        for name, (progress, took) in self._heads.items():
            fold = "" if progress.fold is None else str(progress.fold)
            score = "" if progress.score is None else f"{progress.score:.3f}"
            left = (progress.epochs - progress.epoch) * took
            table.add_row(name, fold, f"{progress.epoch}/{progress.epochs}", score, clock(left))
        return table

    def _show(self) -> None:
        """Draw the table while heads are in training; without one, other bars have the terminal."""
        if self._live is None:
            return
        if self._heads:
            self._live.start()
            self._live.update(self.table(), refresh=True)
        else:
            self._live.stop()


def clock(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
