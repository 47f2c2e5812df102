"""`ser pack`: a run as one file."""

from pathlib import Path
from typing import Annotated

import typer

from ser.commands.help import argument, command, flag, option
from ser.commands.logs import result
from ser.corpus.errors import UserError

app = typer.Typer()


@command(app, "ser pack runs/demo -o demo.ser --embed\nser pack --show demo.ser", section="Predict")
def pack(
    run: Annotated[
        Path | None, argument("RUN", "Folder of a trained run; not with --show.")
    ] = None,
    *,
    out: Annotated[
        Path | None, option("FILE", "Bundle to write; there is no default.", "--out", "-o")
    ] = None,
    embed: Annotated[
        bool, flag("--embed", "Include the foundation models; otherwise the bundle names them.")
    ] = False,
    risk: Annotated[
        float | None,
        option(
            "SHARE",
            "Include scores on unseen corpora from `ser cross`, calibrate on them, and "
            "abstain so that no more than this share of the confident predictions is wrong; by "
            "default there is no evaluation.",
            min=0.0,
            max=1.0,
        ),
    ] = None,
    licence: Annotated[
        str | None, option("TEXT", "Name of the licence of the bundle's weights; by default none.")
    ] = None,
    show: Annotated[
        Path | None,
        option(
            "FILE",
            "Check this bundle, or the one that ser ships by its name, acted-speech-4, and "
            "print its card; packs nothing. There is no default.",
        ),
    ] = None,
) -> None:
    """Pack a trained run into one file, a bundle.

    `ser predict --run` and `ser.load` take it like the run's folder.
    """
    if (show is None) == (run is None) or (run is None) != (out is None):
        raise UserError("give RUN and -o bundle.ser, or --show bundle.ser.")
    if show is not None:
        _show(show)
        return
    from ser.packing.pack import pack as write

    assert run is not None and out is not None
    record = write(run, out, embed=embed, risk=risk, licence=licence)
    needed = {f.model for f in record.features.values() if f.model and not f.embedded}
    result(f"{out}: {_summary(out, len(record.members))}")
    if needed:
        result(f"users of the bundle need {', '.join(sorted(needed))}; --embed includes them")


def _show(path: Path) -> None:
    from ser.predict.archive import CARD
    from ser.predict.bundle import open_bundle
    from ser.predict.shelf import SHELF

    if str(path) in (SHELF.name, SHELF.stem) and not path.is_file():
        path = SHELF
    if not path.is_file():
        raise UserError(f"{path}: does not exist; give a bundle that `ser pack` wrote.")
    bundle = open_bundle(path)
    bundle.check()
    card = (bundle.folder / CARD).read_text(encoding="utf-8")
    # no control characters: the file may be somebody else's
    typer.echo("".join(c for c in card if c.isprintable() or c == "\n"))
    typer.echo(f"{path}: checksums OK, {_summary(path, len(bundle.record.members))}")


def _summary(path: Path, members: int) -> str:
    from ser.predict.archive import digest_of

    with path.open("rb") as file:
        digest = digest_of(file)
    return f"{members} members, {path.stat().st_size / 1e6:.1f} MB, sha256 {digest}"
