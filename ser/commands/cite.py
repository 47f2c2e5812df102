"""`ser cite`: BibTeX of what a run used."""

from pathlib import Path

import typer

from ser.commands.help import command
from ser.commands.options import Json
from ser.commands.output import print_json

app = typer.Typer()


@command(app, "ser cite runs/mine > mine.bib\nser cite mine.ser", section="Score")
def cite(run: Path, *, as_json: Json = False) -> None:
    """Print BibTeX entries for the corpus, the models and the software of a run.

    A comment above each entry names what it is cited for.

    Args:
        run: Run or bundle, as for `ser predict --run`.
    """
    from ser.packing.cite import cite as citations_of

    citations = citations_of(run)
    if as_json:
        print_json([{"cited_for": c.cited_for, "bibtex": c.bibtex} for c in citations])
    else:
        typer.echo("\n".join(map(str, citations)), nl=False)
