"""A section of a report: what the page and report.md have of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ser.score.report.figures import Figure
from ser.score.report.formats import Table


@dataclass(frozen=True)
class Section:
    """One section of a report.

    `details` are label and value of what the section is about, `facts` label, value and interval of
    its leading numbers, `notes` sentences that qualify them. `clips` has a row per utterance, whose
    audio the page plays. `folded` tables only repeat the numbers of the figures; the page opens
    them on demand.
    """

    name: str
    title: str
    text: str
    details: Sequence[tuple[str, str]] = ()
    facts: Sequence[tuple[str, str, str]] = ()
    notes: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    clips: Sequence[Mapping[str, Any]] = ()
    folded: bool = False


def drawn(*figures: Figure | None) -> list[Figure]:
    """Return the figures that there was enough to draw of."""
    return [figure for figure in figures if figure is not None]


def with_figure(name: str, title: str, text: str, figure: Figure | None, table: Table) -> Section:
    """Return a section whose table is folded beneath its figure, if it has one."""
    return Section(
        name, title, text, figures=drawn(figure), tables=[table], folded=figure is not None
    )
