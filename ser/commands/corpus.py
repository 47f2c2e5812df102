"""`ser corpus`: make and check manifests."""

from pathlib import Path

import click

from ser.commands.options import console, exit_code, key_values, print_frame


@click.group("corpus")
def corpus_group() -> None:
    """Make and check manifests."""


@corpus_group.command("import", context_settings={"max_content_width": 100})
@click.argument("name")
@click.argument("folder", type=Path)
@click.option("--out", type=Path, required=True, help="The manifest to write: .parquet or .csv.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the importer."
)
@click.option("--plugin", help="A Python module of yours that registers the importer.")
def corpus_import(
    name: str, folder: Path, *, out: Path, options: tuple[str, ...], plugin: str | None
) -> None:
    """Read the corpus NAME in FOLDER into a manifest.

    NAME is ravdess, emodb, crema-d, msp-podcast, iemocap, or csv (any table:
    --option table=FILE, and one --option a column: --option emotion=label).
    """
    from corpus.check import class_table
    from corpus.importers.registry import import_corpus
    from ser.pipeline import import_plugin

    if plugin:
        import_plugin(plugin, Path())
    manifest = import_corpus(name, folder, **key_values(options))
    manifest.audio = manifest.audio or folder
    manifest.write(out)
    click.echo(f"{out}: {len(manifest)} utterances, classes: {', '.join(manifest.classes)}")
    print_frame(class_table(manifest))


@corpus_group.command("check")
@click.argument("manifest", type=Path)
@click.option("--audio", type=Path, help="The folder its paths are relative to.")
@click.option("--shortest", default=0.1, show_default=True, help="Seconds.")
@click.option("--longest", default=30.0, show_default=True, help="Seconds.")
def corpus_check(manifest: Path, audio: Path | None, shortest: float, longest: float) -> int:
    """Check every clip and label of a manifest; exit 1 when there are errors."""
    from corpus.check import check, render
    from corpus.manifest import Manifest

    read = Manifest.read(manifest)
    report = check(read, read.audio_folder(audio), shortest=shortest, longest=longest)
    render(report, console())
    return exit_code(report.errors)
