"""The fine-tuning stage of a pipeline: its models in order, and the transcripts they read.

Transcripts that a text model reads are extracted first; features of a fine-tuned model, and heads
on them, follow in later stages.
"""

from collections.abc import Iterator, Sequence

from ser.corpus.config import require_set
from ser.corpus.errors import UserError, nearest
from ser.extract.extractor import TRANSCRIPT, parse_options
from ser.extract.job import Job
from ser.extract.run import sources_of
from ser.finetune.job import FineTuneJob
from ser.pipeline.file import Pipeline, cache_place, read_manifest, write_resolved
from ser.pipeline.jobs import open_transcripts
from ser.stages.extract import describe_extraction, extract_features
from ser.stages.heads import NO_CALLBACKS, Callbacks, describe_head


def fine_tunings(
    pipeline: Pipeline,
    names: Sequence[str],
    device: str = "auto",
    *,
    force: bool = False,
    callbacks: Callbacks = NO_CALLBACKS,
) -> Iterator[str]:
    """Fine-tune the named models that are not up to date; yield a line for each.

    Transcripts that a text model reads are extracted first. In a group of processes only the first
    one yields, and transcripts must be cached: the other processes would not wait for so long.
    """
    if not names:
        return
    # imported here, as they import torch, which a run that is up to date does not need
    from ser.finetune.processes import join
    from ser.finetune.run import fine_tune

    require_finetune(pipeline, names)
    processes = join(device)
    if processes.first:
        write_resolved(pipeline)
    if processes.size == 1:
        yield from extract_words(pipeline, names, device)
    for name in names:
        job = finetune_job(pipeline, name)
        report = fine_tune(job, processes, force=force, after_epoch=callbacks.after_epoch)
        callbacks.after_model(name)
        if processes.first:
            yield describe_head(report).replace("heads   ", "finetune", 1)


def extract_words(pipeline: Pipeline, names: Sequence[str], device: str) -> Iterator[str]:
    """Extract the transcripts that the named models read; yield a line for each."""
    configs = [pipeline.finetune[name] for name in names]
    words = dict.fromkeys(c.of for c in configs if c.kind == "text" and c.of != TRANSCRIPT)
    for report in extract_features(pipeline, list(words), device):
        yield describe_extraction(report)


def require_finetune(pipeline: Pipeline, names: Sequence[str]) -> None:
    """Raise `UserError` for a name that is not under `finetune:`."""
    for name in names:
        if name not in pipeline.finetune:
            raise UserError(
                f"{pipeline.source}: there is no '{name}' under finetune; "
                f"{nearest(name, pipeline.finetune)}"
            )


def finetune_job(pipeline: Pipeline, name: str) -> FineTuneJob:
    """Return the job of a fine-tuning; transcripts that it reads must be cached."""
    config, manifest = pipeline.finetune[name], read_manifest(pipeline)
    options = parse_options(config.as_feature(config.model))
    audio, words = manifest.audio_folder(pipeline.corpus.audio), options.transcripts
    require_set(audio)
    transcripts = None if words is None else open_transcripts(pipeline, manifest, words)
    sources = sources_of(Job(name, options, manifest, audio, cache_place(pipeline), transcripts))
    read = None if transcripts is None else transcripts.fingerprint
    return FineTuneJob(pipeline.run, name, config, manifest, sources, read, pipeline.score.groups)
