"""`ser pack`: a run as one file."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ser.commands.help import command
from ser.commands.logs import log, result
from ser.commands.options import OUTPUT
from ser.commands.output import exit_code
from ser.corpus.errors import UserError, plural

app = typer.Typer()


@command(
    app,
    "ser pack runs/demo -o demo.ser --embed\n"
    "ser pack runs/mine --push hf:owner/name --private\n"
    "ser pack runs/mine --onnx mine-onnx\n"
    "ser pack --show demo.ser",
    section="Predict",
)
def pack(
    run: Path | None = None,
    *,
    out: Annotated[Path | None, OUTPUT] = None,
    push: str | None = None,
    private: bool = False,
    embed: bool = False,
    risk: Annotated[float | None, typer.Option(min=0.0, max=1.0)] = None,
    licence: str | None = None,
    onnx: Path | None = None,
    show: Path | None = None,
) -> int:
    """Pack a trained run into one file, a bundle.

    `ser predict --run` and `ser.load` take it like the run's folder.

    Args:
        run: Folder of a trained run; not with --show.
        out (--out, -o FILE): Bundle to write; there is no default, but --push needs none.
        push (hf:OWNER/NAME): Repository of the Hugging Face hub to push the bundle to, with its
            card; created if it does not exist. By default nothing is pushed.
        private: Create the repository of --push as a private one.
        embed: Include the foundation models; otherwise the bundle names them.
        risk (SHARE): Include scores on unseen corpora from `ser cross`, calibrate on them, and
            abstain so that no more than this share of the confident predictions is wrong; by
            default there is no evaluation.
        licence (TEXT): Name of the licence of the bundle's weights; by default none.
        onnx (DIR): Folder to write the heads and the stack to as ONNX files, with a README of their
            inputs; RUN may also be a bundle. By default none is written.
        show (FILE): Check this bundle, one on the hub, or the one that ser ships by its name,
            acted-speech-4, and print its card; packs nothing. There is no default.
    """
    wanted = out is not None or push is not None or onnx is not None
    packs = (run is not None, wanted, show is not None) == (True, True, False)
    shows = (run is not None, wanted, show is not None) == (False, False, True)
    if not (packs or shows):
        raise UserError(
            "give RUN and -o bundle.ser, --push hf:owner/name or --onnx DIR; or --show bundle.ser."
        )
    of_bundle = {"-o": out, "--push": push, "--risk": risk, "--licence": licence}
    of_bundle |= {"--private": private or None, "--embed": embed or None}
    given = [name for name, value in of_bundle.items() if value is not None]
    if onnx is not None and given:
        raise UserError(
            f"{given[0]} does not go with --onnx; pack a bundle first, and give it as RUN."
        )
    if show is not None:
        _show(show)
    elif run is not None and onnx is not None:
        return exit_code(_export(run, onnx))
    elif run is not None:
        _pack(run, out, push, private=private, embed=embed, risk=risk, licence=licence)
    return 0


def _pack(
    run: Path,
    out: Path | None,
    push: str | None,
    *,
    private: bool,
    embed: bool,
    risk: float | None,
    licence: str | None,
) -> None:
    from ser.cache.hub import HubRepo
    from ser.packing.hub_card import bundle_card
    from ser.packing.pack import pack as write

    repo = None if push is None else HubRepo.parse(push, "bundle")
    if repo is not None:
        repo.require_writable()
    with tempfile.TemporaryDirectory() as temporary:
        bundle = out or Path(temporary) / "bundle.ser"
        record = write(run, bundle, embed=embed, risk=risk, licence=licence)
        result(f"{out or run}: {_summary(bundle, len(record.members))}")
        if repo is not None:
            card = bundle_card(bundle, run, record, repo)
            commit = repo.push(repo.title, card, {f"{repo.title}.ser": bundle}, private)
            result(f"{repo}@{commit}: pushed; `ser predict clip.wav --run {repo}` predicts with it")
    needed = {f.model for f in record.features.values() if f.model and not f.embedded}
    if needed:
        result(f"users of the bundle need {', '.join(sorted(needed))}; --embed includes them")


def _export(run: Path, folder: Path) -> list[str]:
    """Write the ONNX graphs of a run; print and return what has none."""
    from ser.packing.onnx_folder import export
    from ser.predict.predictor import Predictor

    problems = export(Predictor(run, device="cpu"), folder)
    graphs = len(list(folder.rglob("*.onnx")))
    result(f"{folder}: {plural(graphs, 'ONNX graph')}; README.md has their inputs")
    for problem in problems:
        log.warning(problem)
    return problems


def _show(path: Path) -> None:
    from ser.predict.archive import CARD
    from ser.predict.bundle import open_bundle, run_path

    path = run_path(path)
    if not path.is_file():
        raise UserError(f"{path}: it is not a file; give a bundle that `ser pack` wrote.")
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
