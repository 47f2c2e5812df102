"""The table of audio encoders in docs/extract.md, made from the registry.

`python -m tests.encoders --write` (`make encoders`) writes it again. "Tiny config": the conformance
suite runs a tiny model of the true class; "real weights": a test runs the published ones, too.
"""

import sys

from ser.extract.kinds.speech_families import FAMILIES
from ser.extract.registry import MODELS, ModelCard
from tests.messages import ROOT

PAGE = ROOT / "docs" / "extract.md"
START, END = "<!-- encoders: make encoders -->\n", "<!-- end of encoders -->\n"
HEAD = (
    "| `model` | encoder | values | Hz | parameters | licence | languages | challenge | tested |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def row(name: str, card: ModelCard) -> str:
    """Return the line of a model."""
    encoder = FAMILIES[card.encoder].name if card.encoder else "Whisper"
    tested = "real weights" if card.package else "tiny config"
    cells = (
        f"`{name}`",
        encoder,
        card.dim,
        f"{card.frame_rate:.3g}",
        f"{card.parameters:.0f} M",
        card.licence,
        card.languages,
        "yes" if card.challenge else "no",
        tested,
    )
    return f"| {' | '.join(map(str, cells))} |\n"


def table() -> str:
    """Return the table of all audio encoders with a short name."""
    rows = (row(name, card) for name, card in MODELS.items() if card.parameters)
    return HEAD + "".join(rows)


def page(table: str) -> str:
    """Return docs/extract.md with a table."""
    before, rest = PAGE.read_text().split(START)
    return before + START + table + END + rest.split(END)[1]


if __name__ == "__main__" and "--write" in sys.argv:
    PAGE.write_text(page(table()))
