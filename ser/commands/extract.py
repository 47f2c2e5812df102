"""`ser extract` and `ser models`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ser.commands.help import Resuming, command
from ser.commands.logs import result
from ser.commands.options import (
    PIPELINE,
    Address,
    Device,
    Json,
    Overrides,
    PipelineFile,
    Slurm,
    choose_engine,
    key_values,
    load_pipeline,
    parse_shard,
)
from ser.commands.output import exit_code, print_json, print_line
from ser.corpus.errors import UserError

if TYPE_CHECKING:
    from ser.extract.job import Job

DEFAULT_CACHE = Path("data/cache")  # that of every preset

app = typer.Typer()


@command(
    app,
    "ser extract --all\n"
    "ser extract --model whisper-large-v3 --device cuda\n"
    "ser extract wavlm --shard 0/4\n"
    "ser extract --model wavlm-large --manifest m.parquet --audio clips",
    section="Extract",
    cls=Resuming,
)
def extract(
    features: list[str] | None = None,
    *,
    everything: bool = False,
    model: str | None = None,
    kind: str | None = None,
    manifest: Path | None = None,
    audio: Path | None = None,
    cache: Path | None = None,
    options: list[str] | None = None,
    shard: str = "0/1",
    jobs: Annotated[int, typer.Option(min=1)] = 1,
    engine: Literal["local", "ray", "slurm"] = "local",
    address: Address = None,
    slurm: Slurm = None,
    device: Device = "auto",
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Extract features from audio into the cache.

    Give FEATURES by name, --all, or --model; features that are cached are skipped. With --manifest
    no pipeline is read. Exit code 1 when a clip failed.

    Args:
        features: Features of the pipeline to extract.
        everything (--all): Extract every feature of the pipeline.
        model (MODEL): Extract every feature of this model, given as a short name, hub id or folder;
            by default the features named.
        kind (KIND): Extract every feature of this kind; with --manifest, the kind of the model. By
            default the features named, or the kind that the model is known to have.
        manifest (FILE): Extract from this corpus without a pipeline; by default the pipeline's
            corpus.
        audio (FOLDER): With --manifest: the folder of its audio; by default the one it names.
        cache (FOLDER): With --manifest: the folder to write features to; by default data/cache.
        options (--option KEY=VALUE): With --manifest: an option of the extractor, as window=trim
            (repeatable); none by default.
        shard (I/N): Extract part I of N, counted from 0, in independent jobs.
        jobs (N): Worker processes on this machine, or jobs of SLURM.
        engine: Where to work: on this machine, on a Ray cluster, or SLURM.
    """
    from ser.stages.extract import describe_extraction, extract_features, features_of_model

    part = parse_shard(shard)
    where = choose_engine(jobs, engine, address, slurm)
    if not where.is_local and (manifest or shard != "0/1"):
        raise UserError("--jobs and --engine need a pipeline, and no --shard.")
    if manifest:
        from ser.extract.check import warn_of_labels, warn_of_languages
        from ser.extract.run import extract as extract_job

        job = _job_alone(
            manifest, model=model, kind=kind, audio=audio, cache=cache, options=options or []
        )
        warn_of_languages({job.name: job.options}, job.manifest.frame["language"])
        warn_of_labels({job.name: job.options})
        report = extract_job(job, device, part)
        result(describe_extraction(report))
        return exit_code(report.failed)
    if (model or kind) and not path.is_file():
        raise UserError(
            f"{path}: there is no such pipeline to take the features of --model or --kind from; "
            "name one with --pipeline, or a corpus with --manifest."
        )
    for name, value in (("audio", audio), ("cache", cache), ("option", options)):
        if value:
            raise UserError(
                f"--{name} goes with --manifest; without it {path} describes what is extracted, "
                "and --set changes that."
            )
    pipeline = load_pipeline(path, overrides)
    if not pipeline.features:
        raise UserError(f"{path}: there are no features; add some under `features:`.")
    names = list(features or ())
    if model or kind:
        names += features_of_model(pipeline, model, kind)
    if everything:
        names = list(pipeline.features)
    if not names:
        known = ", ".join(pipeline.features)
        raise UserError(f"name features ({known}), or give --model or --all.")
    failed = False
    for report in extract_features(pipeline, names, device, part, where):
        result(describe_extraction(report))
        failed = failed or bool(report.failed)
    return exit_code(failed)


def _job_alone(
    manifest: Path,
    *,
    model: str | None,
    kind: str | None,
    audio: Path | None,
    cache: Path | None,
    options: list[str],
) -> "Job":
    """Return the extraction of one feature of a corpus without a pipeline."""
    from pydantic import ValidationError

    from ser.corpus.config import correction
    from ser.corpus.manifest import Manifest
    from ser.extract.extractor import TRANSCRIPT, parse_options
    from ser.extract.job import Job

    if model is None and kind is None:
        raise UserError("--manifest needs --model or --kind, to know what to extract.")
    entry = {"model": model, "kind": kind, **key_values(options)}
    try:
        parsed = parse_options({k: v for k, v in entry.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "options"
        raise UserError(f"--option {where}: {correction(first)}") from error
    if parsed.transcripts is not None:
        raise UserError(
            f"--option of: without a pipeline only `{TRANSCRIPT}`, the manifest's own, can be used."
        )
    corpus = Manifest.read(manifest)
    name = "-".join(part.replace("/", "--") for part in (model, kind) if part)
    return Job(name, parsed, corpus, corpus.audio_folder(audio), cache or DEFAULT_CACHE)


@command(app, "ser models\nser models --json", section="Extract")
def models(as_json: Json = False) -> None:
    """List the models that have a short name.

    For each: kind, values per frame, frame rate, languages, hub id and licence; and what a
    published classifier predicts, with kind: classifier or `ser predict --model`.
    """
    from ser.extract.registry import table

    rows = table().to_dicts()
    if as_json:
        print_json(rows)
        return
    widths = {key: max(len(row[key]) for row in rows) for key in ("model", "kind", "languages")}
    for row in rows:
        once = "a clip" if row["kind"] == "speaker" else "a token"
        rate = once if row["frame_rate"] is None else f"{round(row['frame_rate'], 1):g} Hz"
        legal = "" if row["challenge"] else "; not for the challenge"
        legal += f"; predicts {row['predicts']}" if row["predicts"] else ""
        name, kind, languages = (f"{row[key]:{width}}" for key, width in widths.items())
        print_line(
            f"{name} {kind} {row['dim']:5}  {rate:8} {languages} "
            f"{row['hub']} ({row['licence']}{legal})",
            indent=2,
        )
