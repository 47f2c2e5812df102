"""`ser extract` and `ser models`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ser.commands.options import (
    device_option,
    exit_code,
    key_values,
    load_pipeline,
    parse_shard,
    pipeline_option,
    set_option,
)

if TYPE_CHECKING:
    from extract.loop import Report
    from extract.run import Job


@click.command()
def models() -> None:
    """List the models that have a short name, with their hub ids and licences."""
    from extract.models import table

    for row in table().iter_rows(named=True):
        rate = "a token" if row["frame_rate"] is None else f"{row['frame_rate']:g} Hz"
        legal = "" if row["challenge"] else "; not for the challenge"
        click.echo(
            f"{row['model']:26} {row['kind']:8} {row['dim']:5}  {rate:8} {row['hub']} "
            f"({row['licence']}{legal})"
        )


@click.command()
@click.argument("features", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every feature of the pipeline.")
@click.option("--model", help="Without a pipeline: a short name, hub id or folder.")
@click.option("--kind", help="Without a pipeline: the kind, when the model does not say.")
@click.option("--manifest", type=Path, help="Without a pipeline: the corpus.")
@click.option("--audio", type=Path, help="Without a pipeline: where its audio is.")
@click.option("--cache", type=Path, help="Without a pipeline: where the features go.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="As window=trim.")
@click.option("--shard", default="0/1", show_default=True, metavar="I/N", help="One job of N.")
@click.option("--jobs", type=click.IntRange(1), default=1, help="Processes on this machine.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", help="With --engine ray: the cluster, as auto; none starts one here.")
@device_option
@pipeline_option
@set_option
def extract(
    features: tuple[str, ...],
    everything: bool,
    *,
    path: Path,
    overrides: tuple[str, ...],
    device: str,
    shard: str,
    jobs: int,
    engine: str,
    address: str | None,
    **alone: Any,
) -> int:
    """Extract FEATURES of the pipeline (or --all, or one --model) into the cache."""
    from extract.run import extract as run_extraction
    from ser.extraction import describe_extraction, extract_features

    many = jobs > 1 or engine == "ray"
    if many and (alone["model"] or alone["kind"] or shard != "0/1"):
        raise click.UsageError("--jobs and --engine ray need a pipeline, and no --shard")
    if alone["model"] or alone["kind"]:
        report = run_extraction(_job_alone(**alone), device, parse_shard(shard))
        click.echo(describe_extraction(report))
        return exit_code(report.failed)
    pipeline = load_pipeline(path, overrides)
    if not features and not everything:
        known = ", ".join(pipeline.features) or "none"
        raise click.UsageError(f"name features ({known}) or give --all")
    failed = False
    names = pipeline.features if everything else features

    def together(group: list[str]) -> "list[Report]":
        if engine == "ray":
            from ser.cluster import extract_with_ray

            return extract_with_ray(path, overrides, group, device, address)
        from ser.shards import extract_with_jobs

        return extract_with_jobs(path, overrides, group, jobs, device)

    how = together if many else None
    for report in extract_features(pipeline, list(names), device, parse_shard(shard), how):
        click.echo(describe_extraction(report))
        failed = failed or bool(report.failed)
    return exit_code(failed)


def _job_alone(
    *,
    model: str | None,
    kind: str | None,
    manifest: Path | None,
    audio: Path | None,
    cache: Path | None,
    options: tuple[str, ...],
) -> "Job":
    from pydantic import ValidationError

    from corpus.manifest import Manifest
    from extract.extractor import parse_options
    from extract.run import TRANSCRIPT, Job

    if manifest is None or cache is None:
        raise click.UsageError("--model and --kind need --manifest and --cache")
    entry = {"model": model, "kind": kind, **key_values(options)}
    try:
        parsed = parse_options({k: v for k, v in entry.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "options"
        raise click.UsageError(f"--option {where}: {first['msg']}") from error
    if getattr(parsed, "of", TRANSCRIPT) != TRANSCRIPT:
        raise click.UsageError(
            f"--option of: only `{TRANSCRIPT}`, the manifest's own, is known without a pipeline"
        )
    read = Manifest.read(manifest)
    name = "-".join(part.replace("/", "--") for part in (model, kind) if part)
    return Job(name, parsed, read, read.audio_folder(audio), cache)
