"""What is seen of heads while they are trained: a table in a terminal, a line a head elsewhere."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.table import Table

from ser.commands.options import console
from ser.heads import describe_head

if TYPE_CHECKING:
    from heads.run import HeadReport, Progress


class LiveHeads:
    """Show the heads in training: fold, epoch, dev score, time left; print each when it is done.

    The time left is by the last epoch, and what early stopping saves is not in it.
    """

    def __init__(self) -> None:
        self._heads: dict[str, tuple[Progress, float]] = {}  # with the seconds of the last epoch
        self._console = console()
        seen = self._console.is_terminal
        self._live = Live(console=self._console, transient=True) if seen else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line, above the table."""
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def after_epoch(self, progress: "Progress") -> None:
        """Hear how far a head is."""
        before = self._heads[progress.head][0].seconds if progress.head in self._heads else 0.0
        # fewer seconds than before: its worker died, and another began
        took = progress.seconds - (before if before <= progress.seconds else 0.0)
        self._heads[progress.head] = (progress, took)
        self._show()

    def finish(self, report: "HeadReport") -> "HeadReport":
        """Print what became of a head, and return it."""
        self._heads.pop(report.name, None)
        self.say(describe_head(report))
        self._show()
        return report

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
        if self._live:
            self._live.update(self.table(), refresh=True)


def clock(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
