"""The options that several commands share, each defined once, and how KEY=VALUE texts are read."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ser.commands.help import option
from ser.commands.logs import COMMON, log
from ser.corpus.errors import StoppedError, UserError

if TYPE_CHECKING:
    from ser.corpus.bounded_yaml import Entry
    from ser.engines.engine import Engine
    from ser.pipeline.file import Pipeline

PIPELINE = Path("pipeline.yaml")
MOST = 1_000_000
TRAINING_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?|mps")


def _training_device(device: str) -> str:
    if not TRAINING_DEVICE.fullmatch(device):
        raise typer.BadParameter(f"'{device}' is not one of auto, cpu, cuda, cuda:N or mps")
    return device


def _positive(value: float) -> float:
    if not 0 < value <= MOST:
        raise typer.BadParameter(f"{value:g} is not above 0 and up to {MOST:,}")
    return value


def _manifest_suffix(path: Path | None) -> Path | None:
    if path is not None and path.suffix not in (".parquet", ".csv"):
        raise typer.BadParameter(f"'{path}' does not end in .parquet or .csv")
    return path


def _devices(incomplete: str) -> list[str]:
    return [
        name for name in ("auto", "cpu", "cuda", "cuda:0", "mps") if name.startswith(incomplete)
    ]


POSITIVE = typer.Option(callback=_positive)  # above 0 and up to a million
OUTPUT = typer.Option(dir_okay=False)  # to write; a folder is refused before any work
OUTPUT_MANIFEST = typer.Option(dir_okay=False, callback=_manifest_suffix)  # to write

PipelineFile = Annotated[
    Path, option("FILE", "Pipeline to read.", "--pipeline", rich_help_panel=COMMON)
]
Overrides = Annotated[
    list[str] | None,
    option(
        "SECTION.KEY=VALUE",
        "Replace a value of the pipeline, as stack.folds=10 (repeatable); none by default.",
        "--set",
        rich_help_panel=COMMON,
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(
        help="Device to compute on; auto takes a GPU where there is one.", rich_help_panel=COMMON
    ),
]
TrainingDevice = Annotated[
    str,
    option(
        "auto|cpu|cuda|cuda:N|mps",
        "Device to train on; auto takes a GPU where there is one.",
        "--device",
        callback=_training_device,
        autocompletion=_devices,
        rich_help_panel=COMMON,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON to standard output in place of a table.")
]
Force = Annotated[bool, typer.Option("--force", help="Redo what is up to date.")]
RunFolder = Annotated[
    Path | None,
    option(
        "RUN",
        "Folder of a trained run, a bundle, or hf:owner/name[@revision] of the hub; by default the "
        "bundle that ser ships.",
        "--run",
    ),
]
OneHead = Annotated[
    str | None, option("NAME", "Predict with this head alone; the stack by default.")
]
PublishedModel = Annotated[
    str | None,
    option(
        "MODEL",
        "Published classifier to use instead of a run: short name (`ser models`), hub id or "
        "folder. By default the run.",
        "--model",
    ),
]
MinConfidence = Annotated[
    float | None,
    option(
        "P",
        "Highest probability below which a prediction is unsure, 0 to 1; by default that of "
        "the bundle, if it has one; 0: none is. `ser score --risk` chooses one for a run.",
        min=0.0,
        max=1.0,
    ),
]
Address = Annotated[
    str | None,
    option(
        "ADDRESS", "Ray cluster to use with --engine ray, as auto; by default one is started here."
    ),
]
Jobs = Annotated[
    str,
    option(
        "auto|N",
        "Heads to train at a time, each in a process of its own; auto: as many as the cores "
        "and the memory allow.",
    ),
]
HeadsEngine = Annotated[
    Literal["process", "ray", "slurm"],
    typer.Option(help="Where to work: in processes of this machine, on a Ray cluster, or SLURM."),
]
Slurm = Annotated[
    list[str] | None,
    option(
        "KEY=VALUE",
        "With --engine slurm: an option of its jobs, as partition=gpu, time=240 or "
        "gpus_per_node=1 (repeatable); by default those of the cluster.",
        "--slurm",
    ),
]

CrossValidated = Annotated[
    str | None,
    option(
        "BY",
        "Read the pooled result of `ser cv` by this column, as speaker; by default the run.",
        "--cv",
    ),
]

CacheFolder = Annotated[
    str | None, option("FOLDER|URL", "Cache to use; by default the pipeline's.", "--cache")
]


def load_pipeline(path: Path, overrides: Sequence[str] | None, cv: str | None = None) -> "Pipeline":
    """Read the pipeline that a command was given, or that of its cross-validation by `cv`."""
    from ser.pipeline.file import Pipeline

    pipeline = Pipeline.load(path, tuple(overrides or ()))
    if cv is not None:
        from ser.stages.cv import pooled_file

        for_any_run = [o for o in overrides or () if o.startswith(("score.", "stack."))]
        pipeline = Pipeline.load(pooled_file(pipeline, cv), for_any_run)
    for key, place in (("cache", pipeline.cache), ("run", pipeline.run)):
        if isinstance(place, Path):
            require_folder(place, f"{pipeline.source}: {key}")
    log.debug("%s: cache %s, run %s", path, pipeline.cache, pipeline.run)
    return pipeline


def require_folder(folder: Path, what: str) -> None:
    """Raise `UserError` where a file is in the place of a folder to write to, before any work."""
    from ser.corpus.atomic import file_in_place

    if file := file_in_place(folder):
        raise UserError(f"{what}: {file} is a file; give a folder.")


def require_trained(pipeline: "Pipeline", wanted: Sequence[str] | None = None) -> None:
    """Raise `StoppedError` when one of the `wanted` heads and fine-tuned models failed.

    They are all of them by default. Warns with a `Note` of those that are stale.
    """
    from ser.stages.heads import failed_heads, note_stale

    if not pipeline.systems:
        raise UserError(
            f"{pipeline.source}: there are no heads to stack or score; add some under `heads:`."
        )
    if problem := failed_heads(pipeline, wanted or pipeline.systems):
        raise StoppedError(f"{pipeline.run}: {problem}")
    note_stale(pipeline, wanted or pipeline.systems)


def key_texts(texts: Sequence[str], flag: str = "--option") -> dict[str, str]:
    """Split KEY=VALUE options at the first equals sign; raises `UserError`."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name = key.strip().replace("-", "_")
        if not equals or not name:
            raise UserError(f"{flag} {text}: give it as KEY=VALUE.")
        if name in pairs:
            raise UserError(f"{flag} {key.strip()}: it is given twice; give it once.")
        pairs[name] = value
    return pairs


def key_values(texts: Sequence[str]) -> "Entry":
    """Read KEY=VALUE options; values are YAML. Raises `UserError`."""
    from ser.corpus.bounded_yaml import parse_yaml

    return {
        key: parse_yaml(f"--option {key}", value, numbered=False).value
        for key, value in key_texts(texts).items()
    }


def parse_shard(text: str) -> tuple[int, int]:
    """Read I/N with 0 <= I < N; raises `UserError`."""
    i, slash, n = text.partition("/")
    if not (slash and i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise UserError(f"--shard {text}: give it as I/N with I from 0 to N-1, as 0/4.")
    return int(i), int(n)


def choose_engine(
    jobs: int | None, engine: str, address: str | None, slurm: Sequence[str] | None
) -> "Engine":
    """Return where the work is done, by --jobs, --engine and their options; raises `UserError`."""
    from ser.engines.engine import Engine

    if slurm and engine != "slurm":
        raise UserError("--slurm goes with --engine slurm; add it.")
    options = key_texts(slurm or (), "--slurm") if engine == "slurm" else None
    return Engine(jobs, engine == "ray", address, options)


def parse_jobs(text: str) -> int | None:
    """Read a number from 1 on, or auto as None; raises `UserError`."""
    if text == "auto":
        return None
    if not text.isdigit() or not int(text):
        raise UserError(f"--jobs {text}: give auto, or a number from 1 on.")
    return int(text)
