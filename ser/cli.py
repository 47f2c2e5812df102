"""The command line. Every command imports what it needs when it runs, so that `--help` is instant.

Exit codes: 0 done; 1 finished, with failures listed (or stopped by the machine: a full disk);
2 a call, a file or a value that the user can mend, said in one sentence.
"""

import errno
import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import click

from ser.commands.cache import cache_group
from ser.commands.corpus import corpus_group
from ser.commands.extract import extract, models
from ser.commands.finetune import finetune
from ser.commands.heads import heads_group
from ser.commands.options import (
    console,
    device_option,
    exit_code,
    load_pipeline,
    pipeline_option,
    set_option,
)
from ser.commands.predict import pack, predict
from ser.commands.presets import init, presets_group, smoke_one
from ser.commands.score import report, score, submit
from ser.commands.serve import serve
from ser.commands.stack import stack_group

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
    "accelerate": "finetune",
    "peft": "finetune",
    "optuna": "tune",
    "tensorboard": "tracking",
    "mlflow": "tracking",
    "ray": "ray",
    "openai": "llm",
    "fsspec": "remote",
    "s3fs": "remote",
    "jinja2": "report",
    "kaleido": "report",
    "plotly": "report",
    "gradio": "serve",
    "fastapi": "serve",
    "fastapi_offline": "serve",
    "prometheus_client": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ser")
def cli() -> None:
    """Recognise emotions in speech: extract embeddings once, train heads, stack them, score."""


for command in (
    init,
    presets_group,
    corpus_group,
    extract,
    models,
    cache_group,
    finetune,
    heads_group,
    stack_group,
    score,
    predict,
    pack,
    report,
    serve,
    submit,
):
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


@cli.command("run")
@click.option(
    "--smoke", is_flag=True, help="Only try it: tiny models, made-up data, a temporary folder, CPU."
)
@device_option
@pipeline_option
@set_option
def run_command(smoke: bool, device: str, path: Path, overrides: tuple[str, ...]) -> int:
    """Do everything the pipeline says, in order; skip what is current."""
    from score.run import render
    from ser.run import run_all

    pipeline = load_pipeline(path, overrides)
    if smoke:
        return exit_code(smoke_one(pipeline))
    metrics, failed = run_all(pipeline, device, click.echo)
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
