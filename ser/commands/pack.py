"""`ser pack`: a trained run as one file, or what such a file says of itself."""

from pathlib import Path

import click


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
