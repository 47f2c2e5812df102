"""`ser presets` and `ser init`: the pipelines that come with the product."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser.commands.options import exit_code

if TYPE_CHECKING:
    from ser.pipeline import Pipeline


@click.group("presets", invoke_without_command=True)
@click.pass_context
def presets_group(context: click.Context) -> None:
    """List the presets: result, features, heads, needs. `*` is fine-tuned; GB are of the cache."""
    if context.invoked_subcommand is not None:
        return
    from ser.presets.catalogue import table

    for row in table().iter_rows(named=True):
        click.echo(f"{row['preset']:22}{row['result']}")
        click.echo(f"{'':22}{row['features']}; {row['heads']}; {row['needs']}")


@presets_group.command("check")
def check() -> int:
    """Load and check every preset; exit 1 when one is wrong."""
    from corpus.errors import UserError
    from presets import names
    from ser.presets.catalogue import load

    wrong = []
    for name in names():
        try:
            pipeline = load(name)
        except UserError as error:
            click.echo(f"{name:22}{error}")
            wrong.append(name)
        else:
            counts = f"{len(pipeline.features)} features, {len(pipeline.systems)} heads"
            click.echo(f"{name:22}right: {counts}")
    return exit_code(wrong)


@presets_group.command("smoke")
@click.argument("names", nargs=-1)
@click.option("--folder", type=Path, help="Keep what is made here, a folder for each preset.")
def smoke(names: tuple[str, ...], folder: Path | None) -> int:
    """Run the presets NAMES, or every published one, on made-up data with tiny models."""
    from presets import PUBLISHED
    from ser.presets.catalogue import load

    pipelines = {name: load(name) for name in names or PUBLISHED}
    failed: dict[str, str] = {}
    for name, pipeline in pipelines.items():
        click.echo(f"preset   {name}")
        where = None if folder is None else folder / name
        failed |= {f"{name}/{what}": why for what, why in smoke_one(pipeline, where).items()}
    for what, why in failed.items():
        click.echo(f"failed   {what}: {why}")
    return exit_code(failed)


def smoke_one(pipeline: "Pipeline", folder: Path | None = None) -> dict[str, str]:
    """Run one pipeline made small, in a folder or a temporary one; return what failed."""
    from tempfile import TemporaryDirectory

    from ser.presets.smoke import smoke as run_small

    with ExitStack() as stack:
        where = folder or Path(stack.enter_context(TemporaryDirectory(prefix="ser-smoke-")))
        _, failed = run_small(pipeline, where, click.echo)
    return failed


@click.command("init")
@click.option("--preset", "name", required=True, help="One that `ser presets` lists.")
@click.option("--out", type=Path, default=Path("pipeline.yaml"), show_default=True)
@click.option("--force", is_flag=True, help="Replace the file that is there.")
def init(name: str, *, out: Path, force: bool) -> None:
    """Write a preset as a pipeline.yaml to edit, its comments and all."""
    from cache.files import write_durably
    from corpus.errors import UserError
    from presets import variables, written

    text = written(name, out.name)
    if out.exists() and not force:
        raise UserError(f"{out}: there is such a file; give another `--out`, or `--force`.")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_durably(out, text)
    click.echo(f"{out}: the preset {name}; paths in it are relative to it. What to edit next:")
    click.echo("  corpus.manifest  the table of your clips; `ser corpus import` writes one")
    click.echo("  corpus.audio     the folder that its paths are relative to")
    for variable in variables(text):
        click.echo(f"  ${{{variable}}}  export it, or write its value in its place")
    smoked = f"ser run --smoke --pipeline {out}"
    click.echo(f"`{smoked}` tries it on made-up data; `ser run --pipeline {out}` runs it.")
