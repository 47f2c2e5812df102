"""The fine-tuning stage of a pipeline: its models in order, and what each reads.

Transcripts that a text model reads are extracted before; features that are made of a fine-tuned
model, and heads on them, come after.
"""

from collections.abc import Iterator, Sequence

from cache.transcripts import TranscriptCache
from corpus.errors import UserError
from extract.extractor import parse_options
from extract.run import TRANSCRIPT, Job, open_feature, sources_of
from heads.run import AfterEpoch
from ser.extraction import describe_extraction, extract_features, feature_job
from ser.finetune.processes import Processes
from ser.finetune.run import FineTuneJob, fine_tune
from ser.heads import describe_head
from ser.pipeline import Pipeline, read_manifest, write_resolved


def fine_tunings(
    pipeline: Pipeline,
    names: Sequence[str],
    device: str = "auto",
    *,
    force: bool = False,
    after_epoch: AfterEpoch = lambda progress: None,
) -> Iterator[str]:
    """Fine-tune the named models, those that are current left as they are; yield a line of each.

    Transcripts that a text model reads are recognised first. In a group of processes only the first
    one yields, and transcripts must be there: the others would not wait for so long.
    """
    if not names:
        return
    require_finetune(pipeline, names)
    processes = Processes.join(device)
    if processes.first:
        write_resolved(pipeline)
    if processes.size == 1:
        yield from extract_words(pipeline, names, device)
    for name in names:
        job = finetune_job(pipeline, name)
        done = fine_tune(job, processes, force=force, after_epoch=after_epoch)
        if processes.first:
            yield describe_head(done).replace("heads   ", "finetune", 1)


def extract_words(pipeline: Pipeline, names: Sequence[str], device: str) -> Iterator[str]:
    """Extract the transcripts that the named models read; yield a line of each."""
    read = [pipeline.finetune[name] for name in names]
    words = dict.fromkeys(c.of for c in read if c.kind == "text" and c.of != TRANSCRIPT)
    for report in extract_features(pipeline, list(words), device):
        yield describe_extraction(report)


def require_finetune(pipeline: Pipeline, names: Sequence[str]) -> None:
    """Raise `UserError` for a name that is not under `finetune:`."""
    known = pipeline.finetune
    for name in names:
        if name not in known:
            raise UserError(
                f"{pipeline.source}: there is no '{name}' under finetune; known are "
                f"{', '.join(known) or 'none'}."
            )


def finetune_job(pipeline: Pipeline, name: str) -> FineTuneJob:
    """Return a fine-tuning; transcripts that it reads must be cached."""
    config, manifest = pipeline.finetune[name], read_manifest(pipeline)
    options = parse_options(config.as_feature(config.model))
    audio, transcripts = manifest.audio_folder(pipeline.corpus.audio), None
    if config.kind == "text" and config.of != TRANSCRIPT:
        cached = open_feature(feature_job(pipeline, manifest, config.of))
        assert isinstance(cached, TranscriptCache)
        transcripts = cached
    read = sources_of(Job(name, options, manifest, audio, pipeline.cache, transcripts))
    mark = transcripts.fingerprint if transcripts is not None else None
    return FineTuneJob(pipeline.run, name, config, manifest, read, mark)
