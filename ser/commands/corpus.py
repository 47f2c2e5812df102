"""`ser corpus`: make and check manifests."""

from pathlib import Path
from typing import Annotated

import typer

from ser.commands import corpus_parts
from ser.commands.help import Group, command, option
from ser.commands.logs import log
from ser.commands.options import OUTPUT_MANIFEST, Json, key_texts
from ser.commands.output import console, exit_code, print_frame, print_json
from ser.corpus.errors import one_line

app = typer.Typer()
corpus = typer.Typer(cls=Group, help="Make and check manifests, the tables of clips and labels.")
corpus.add_typer(corpus_parts.app)
app.add_typer(corpus, name="corpus", rich_help_panel="Corpus")

Plugin = Annotated[
    str | None, option("MODULE", "Python module that registers the importer; none by default.")
]


@command(
    corpus,
    "ser corpus import ravdess /data/RAVDESS --out data/ravdess.parquet\n"
    "ser corpus import csv clips --out m.csv --option table=t.csv",
    name="import",
)
def import_(
    name: str,
    folder: Path,
    *,
    out: Annotated[Path, OUTPUT_MANIFEST],
    options: list[str] | None = None,
    plugin: Plugin = None,
) -> None:
    """Read the corpus NAME in FOLDER into a manifest.

    `ser corpus importers` lists the names. The value of an option is taken as text; only a mapping
    is YAML, as `--option 'emotions={04: sad, 05: angry}'`. Every importer has `emotions`, which
    gives emotions their classes; those left out have none.

    Args:
        name: Name of the importer.
        folder: Folder of the corpus.
        out (FILE): Manifest to write: .parquet or .csv.
        options (--option KEY=VALUE): Option of the importer, as table=t.csv (repeatable); none by
            default.
    """
    from ser.corpus.check import class_table
    from ser.corpus.importers.registry import import_corpus, options_of_text
    from ser.corpus.labels import label_problems, summary
    from ser.corpus.manifest import missing_audio
    from ser.pipeline.plugins import import_plugin

    if plugin:
        import_plugin(plugin, Path())
    manifest = import_corpus(name, folder, **options_of_text(name, key_texts(options or ())))
    manifest.audio = manifest.audio or folder
    manifest.write(out)
    for note in manifest.notes:
        typer.echo(one_line(note))
    typer.echo(f"{out}: {summary(manifest)}")
    print_frame(class_table(manifest))
    for _, problem, detail, _ in label_problems(manifest, out):
        log.warning("warning: %s: %s", problem, detail)
    if missing := missing_audio(manifest):
        log.warning(
            "warning: audio missing: %s; put it there, or import again with the folder that the "
            "paths start from",
            missing,
        )


@command(corpus, "ser corpus importers\nser corpus importers emovo\nser corpus importers --json")
def importers(name: str | None = None, *, plugin: Plugin = None, as_json: Json = False) -> None:
    """List the importers, or describe one: files, options, splits, licence, citation.

    Args:
        name: Importer to describe; default: list all.
    """
    from ser.corpus.importers.registry import IMPORTERS, describe
    from ser.pipeline.plugins import import_plugin

    if plugin:
        import_plugin(plugin, Path())
    if as_json:
        names = [name] if name else [entry.name for entry in IMPORTERS.list()]
        print_json([{"name": n, "description": describe(n)} for n in names])
    elif name:
        typer.echo(describe(name))
    else:
        for entry in IMPORTERS.list():
            typer.echo(f"{entry.name:12} {entry.summary}")


@command(
    corpus,
    "ser corpus check data/ravdess.parquet\n"
    "ser corpus check m.csv --audio clips --longest 15 --json\n"
    "ser corpus check m.csv --quick",
)
def check(
    manifest: Path,
    *,
    audio: Path | None = None,
    shortest: Annotated[float, typer.Option(min=0)] = 0.1,
    longest: Annotated[float, typer.Option(min=0)] = 30.0,
    quick: bool = False,
    as_json: Json = False,
) -> int:
    """Check every clip and label of a manifest.

    Every clip is decoded, or a sample with --quick. Exit code 1 when there are errors, also where
    no row has a split or none has a class.

    Args:
        manifest: Manifest to check.
        audio (FOLDER): Folder that the manifest's paths start from; by default the one it names.
        shortest (SECONDS): Warn of clips shorter than this, in seconds.
        longest (SECONDS): Warn of clips longer than this, in seconds.
        quick: Decode only 200 clips, evenly spaced in the manifest.
    """
    from ser.corpus.check import check, render
    from ser.corpus.manifest import Manifest

    read = Manifest.read(manifest)
    sample = 200 if quick else None
    report = check(read, read.audio_folder(audio), shortest, longest, sample=sample)
    if as_json:
        print_json(
            {
                "errors": report.errors,
                "seconds": report.seconds,
                "decoded": report.decoded,
                "problems": report.problems.to_dicts(),
                "classes": report.classes.to_dicts(),
            }
        )
    else:
        render(report, console())
    return exit_code(report.errors)
