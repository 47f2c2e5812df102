"""`ser presets` and `ser init`: the pipelines that come with the product."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser.commands.help import Group, command
from ser.commands.logs import log
from ser.commands.options import OUTPUT, PIPELINE, Json, require_folder
from ser.commands.output import exit_code, print_json, print_line

if TYPE_CHECKING:
    from ser.pipeline.file import Pipeline

app = typer.Typer()
presets = typer.Typer(cls=Group, invoke_without_command=True)
app.add_typer(presets, name="presets", rich_help_panel="Start")


@presets.callback()
def list_presets(ctx: typer.Context, as_json: Json = False) -> None:
    """List the presets, or check them.

    For each preset: its corpus and published result, features (`*` marks a fine-tuned model), heads
    and stack, size of its cache, licences other than Apache and MIT, and whether the challenge
    allows its models.
    """
    if ctx.invoked_subcommand is not None:
        return
    from ser.smoke.catalogue import table

    rows = table().to_dicts()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print_line(f"{row['preset']:22}{row['description']}", indent=22)
        print_line(
            f"{'':22}features: {row['features']}; heads: {row['heads']}; {row['needs']}", indent=22
        )


@command(presets, "ser presets check")
def check() -> int:
    """Check every preset; exit code 1 when one is wrong."""
    from ser.corpus.errors import UserError, plural
    from ser.presets import names
    from ser.smoke.catalogue import load

    wrong = []
    for name in names():
        try:
            pipeline = load(name)
        except UserError as error:
            typer.echo(f"{name:22}{error}")
            wrong.append(name)
        else:
            features = plural(len(pipeline.features), "feature")
            heads = plural(len(pipeline.systems), "head")
            typer.echo(f"{name:22}valid: {features}, {heads}")
    return exit_code(wrong)


@command(presets, "ser presets smoke\nser presets smoke unicamp nu --folder /tmp/presets")
def smoke(names: list[str] | None = None, *, folder: Path | None = None) -> int:
    """Run presets on made-up data with tiny models.

    Exit code 1 when a stage of one failed, or when one could not be run.

    Args:
        names: Presets to run; by default every published one.
        folder (FOLDER): Keep the results here, a folder for each preset; by default nothing is
            kept.
    """
    from ser.corpus.errors import UserError
    from ser.presets import PUBLISHED
    from ser.smoke.catalogue import load
    from ser.smoke.smoke import require_new

    pipelines = {name: load(name) for name in names or PUBLISHED}
    if folder is not None:
        for name in pipelines:
            require_new(folder / name)
    failed: dict[str, str] = {}
    for name, pipeline in pipelines.items():
        log.info("preset   %s", name)
        where = None if folder is None else folder / name
        try:
            stages = smoke_one(pipeline, where)
        except UserError as error:  # the other presets still run
            failed[name] = str(error)
        except KeyboardInterrupt as error:
            remedy = f"delete {folder}; then the same command starts over"
            raise typer.Abort("" if folder is None else remedy) from error
        else:
            failed |= {f"{name}/{what}": why for what, why in stages.items()}
    for what, why in failed.items():
        typer.echo(f"failed   {what}: {why}")
    return exit_code(failed)


def smoke_one(pipeline: "Pipeline", folder: Path | None = None) -> dict[str, str]:
    """Run one pipeline made small, in a folder or a temporary one; return what failed."""
    from tempfile import TemporaryDirectory

    from ser.smoke.smoke import smoke as run_small

    with TemporaryDirectory(prefix="ser-smoke-") as temporary:
        _, failed = run_small(pipeline, folder or Path(temporary), log.info)
    return failed


@command(
    app,
    "ser init --manifest data/mine.parquet\nser init --preset unicamp --out unicamp.yaml",
    section="Start",
)
def init(
    *,
    name: str | None = None,
    manifest: Path | None = None,
    out: Annotated[Path, OUTPUT] = PIPELINE,
    force: bool = False,
) -> None:
    """Write a pipeline.yaml to edit: a preset, or one for your corpus.

    With --manifest, classes, features, heads and stack suit the corpus and its size, and the
    pipeline runs as it is.

    Args:
        name (--preset NAME): Preset to write, of those that `ser presets` lists; there is no
            default.
        manifest (FILE): Manifest of your corpus, to write a pipeline for; there is no default.
        out (FILE): File to write.
        force: Replace the file when it already exists.
    """
    from ser.corpus.atomic import write_durably
    from ser.corpus.errors import UserError
    from ser.presets import variables, written

    if (name is None) == (manifest is None):
        raise UserError("give either --preset NAME or --manifest FILE.")
    if manifest is not None:
        from ser.corpus.manifest import Manifest
        from ser.pipeline.starter import english_note, starter

        corpus = Manifest.read(manifest)
        text = starter(corpus, out)
    else:
        text = written(str(name), out.name)
    require_folder(out.parent, "--out")
    if out.exists() and not force:
        raise UserError(f"{out}: already exists; give another `--out`, or `--force`.")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_durably(out, text)
    if manifest is not None:
        first = corpus.audio_folder() / corpus.frame["path"][0]
        if first.is_file():
            typer.echo(f"{out}: a pipeline for {manifest}; `ser run --pipeline {out}` runs it.")
        else:
            typer.echo(f"{out}: a pipeline for {manifest}; there is no {first}.")
            typer.echo(f"Set corpus.audio in it, then run `ser run --pipeline {out}`.")
        if note := english_note(corpus, text):
            typer.echo(note)
        return
    typer.echo(f"{out}: the preset {name}; paths in it are relative to it. What to edit next:")
    typer.echo("  corpus.manifest  the table of your clips; `ser corpus import` writes one")
    typer.echo("  corpus.audio     the folder that its paths are relative to")
    for variable in variables(text):
        typer.echo(f"  ${{{variable}}}  export it, or write its value in its place")
    smoked = f"ser run --smoke --pipeline {out}"
    typer.echo(f"`{smoked}` tries it on made-up data; `ser run --pipeline {out}` runs it.")
