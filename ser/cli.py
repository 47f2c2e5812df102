"""The command line. Every command imports what it needs when it runs, so that `--help` is instant.

Exit codes: 0 done; 1 finished, with failures listed (or stopped by the machine: a full disk);
2 a call, a file or a value that the user can mend, said in one sentence.
"""

import errno
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ser.cache_commands import cache_group
from ser.extract_commands import extract, models
from ser.options import (
    console,
    device_option,
    exit_code,
    key_values,
    load_pipeline,
    pipeline_option,
    print_frame,
    set_option,
)

if TYPE_CHECKING:
    from ser.pipeline import Pipeline

SMALL_MACHINE = 4  # cores
FULL = os.strerror(errno.ENOSPC)
EXTRAS = {
    "torch": "heads",
    "safetensors": "heads",
    "transformers": "extract",
    "tokenizers": "extract",
    "ctranslate2": "extract",
    "huggingface_hub": "extract",
    "espeakng_loader": "demo",
    "ray": "ray",
    "fsspec": "remote",
    "s3fs": "remote",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ser")
def cli() -> None:
    """Recognise emotions in speech: extract embeddings once, train heads, stack them, score."""


for command in (extract, models, cache_group):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line; turn what a user can mend into one sentence."""
    from corpus.errors import UserError

    if (os.cpu_count() or 1) <= SMALL_MACHINE:
        # read by torch, CTranslate2 and LightGBM when they load; on two cores a second thread
        # made a training step 16 times slower and an encoder 3 times
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    # said once a batch by libraries, about what we mask or check ourselves
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    warnings.filterwarnings("ignore", message="Segment too short")
    # transformers prints loading bars and advice that no user of ours can act upon
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "0" if sys.stderr.isatty() else "1")
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except UserError as error:
        stop(str(error), 2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        stop("stopped; what was finished is kept, and the same command goes on from there.", 130)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        stop(
            f"the package {error.name} is not installed; run `pip install "
            f"'ser[{EXTRAS[error.name]}]'`.",
            2,
        )
    except Exception as error:
        # polars, HDF5 and safetensors each wrap a full disk in an exception of their own
        if getattr(error, "errno", None) != errno.ENOSPC and FULL not in str(error):
            raise
        stop(
            "the disk is full; what was finished is kept: make room and run the same command "
            "again.",
            1,
        )


def stop(message: str, code: int) -> NoReturn:
    """Print one sentence on standard error and exit."""
    click.echo(f"ser: {message}", err=True)
    sys.exit(code)


@cli.group()
def corpus() -> None:
    """Make and check manifests."""


@corpus.command("import", context_settings={"max_content_width": 100})
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


@corpus.command("check")
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


@cli.group()
def heads() -> None:
    """Train heads from the cache."""


@heads.command("train")
@click.argument("names", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Train again what is current.")
@click.option("--in-memory", is_flag=True, help="Read the features whole first, if they fit.")
@device_option
@pipeline_option
@set_option
def heads_train(
    names: tuple[str, ...], *, path: Path, overrides: tuple[str, ...], **how: Any
) -> None:
    """Train the heads NAMES."""
    _train(load_pipeline(path, overrides), list(names), **how)


@heads.command("train-all")
@click.option("--force", is_flag=True, help="Train again what is current.")
@click.option("--in-memory", is_flag=True, help="Read the features whole first, if they fit.")
@device_option
@pipeline_option
@set_option
def heads_train_all(path: Path, overrides: tuple[str, ...], **how: Any) -> None:
    """Train every head of the pipeline; what is current is skipped."""
    pipeline = load_pipeline(path, overrides)
    _train(pipeline, list(pipeline.heads), **how)


def _train(
    pipeline: "Pipeline", names: list[str], *, device: str, force: bool, in_memory: bool
) -> None:
    from ser.run import describe_head, train

    reports = train(pipeline, names, device, force=force, in_memory=in_memory, say=click.echo)
    for report in reports:
        click.echo(describe_head(report))


@heads.command("list")
@pipeline_option
@set_option
def heads_list(path: Path, overrides: tuple[str, ...]) -> None:
    """List the pipeline's heads and what has been trained."""
    from ser.run import heads_table

    print_frame(heads_table(load_pipeline(path, overrides)))


@cli.group()
def stack() -> None:
    """Combine the heads' logits; needs no torch and no GPU."""


@stack.command("fit")
@pipeline_option
@set_option
def stack_fit(path: Path, overrides: tuple[str, ...]) -> None:
    """Fit the stacker on the heads' logits and predict every split."""
    import stack.run

    pipeline = load_pipeline(path, overrides)
    about = stack.run.fit(pipeline.run, list(pipeline.heads), pipeline.stack)
    click.echo(
        f"{pipeline.run / 'stack'}: {pipeline.stack.model} over {len(about['heads'])} heads, "
        f"fitted on {about['rows']} utterances"
    )


@stack.command("predict")
@click.option("--logits", type=Path, help="A folder of <head>/logits.h5; the run's own by default.")
@click.option("--out", type=Path, help="A .csv to write; standard output by default.")
@pipeline_option
@set_option
def stack_predict(
    logits: Path | None, out: Path | None, path: Path, overrides: tuple[str, ...]
) -> None:
    """Apply the fitted stacker to logits of the same heads."""
    import stack.run

    pipeline = load_pipeline(path, overrides)
    frame = stack.run.predict(pipeline.run, logits)
    frame.write_csv(out or sys.stdout)


@cli.command("score")
@pipeline_option
@set_option
def score_command(path: Path, overrides: tuple[str, ...]) -> None:
    """Score every head and the stack on dev and test; write the report folder."""
    from score.run import render, score_run
    from ser.run import read_manifest

    pipeline = load_pipeline(path, overrides)
    manifest = read_manifest(pipeline)
    render(score_run(pipeline.run, pipeline.score, list(pipeline.heads), manifest), console())


@cli.command("run")
@device_option
@pipeline_option
@set_option
def run_command(device: str, path: Path, overrides: tuple[str, ...]) -> int:
    """Do everything the pipeline says, in order; skip what is current."""
    from score.run import render
    from ser.run import run_all

    metrics, failed = run_all(load_pipeline(path, overrides), device, click.echo)
    render(metrics, console())
    return exit_code(failed)


@cli.command("demo")
@click.option("--folder", type=Path, default=Path(), help="Where data/ and runs/ go.")
def demo_command(folder: Path) -> int:
    """Synthesize a small corpus and run the whole pipeline on it with real models."""
    from score.run import render
    from ser.demo import demo

    metrics, failed = demo(folder, click.echo)
    render(metrics, console())
    return exit_code(failed)
