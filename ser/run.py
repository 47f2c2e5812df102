"""A pipeline's stages in order: fine-tune, extract, heads, stack, score.

Each stage is asked whether what it would make is current; `say` hears what was done and what was
skipped and why. Nothing here computes: the stages do.
"""

import time
from typing import Any

import score.run
import stack.run
from ser.extraction import describe_extraction, extract_features
from ser.finetune.stage import fine_tunings
from ser.heads import Say, describe_head, failed_heads, train
from ser.pipeline import Pipeline, read_manifest


def run_all(pipeline: Pipeline, device: str, say: Say) -> tuple[dict[str, Any], dict[str, str]]:
    """Run the whole pipeline; return the metrics and what could not be extracted or trained.

    A stage that is current is skipped, and said to be. Without a head that the stack needs there is
    no stack and no score.
    """
    failed: dict[str, str] = {}
    for line in fine_tunings(pipeline, list(pipeline.finetune), device):
        say(line)
    for report in extract_features(pipeline, list(pipeline.features), device):
        say(describe_extraction(report))
        failed |= {f"{report.name}/{u}": error for u, error in report.failed.items()}
    if not pipeline.systems:
        say("heads    none in the file: nothing to train, stack or score")
        return {}, failed
    for head in train(pipeline, list(pipeline.heads), device):
        say(describe_head(head))
        failed |= {f"heads/{head.name}": head.error} if head.done == "failed" else {}
    heads = pipeline.systems
    absent = failed_heads(pipeline, heads)
    if absent:
        say(f"stack    not fitted, nor anything scored: {absent}")
        return {}, failed
    if stack.run.is_current(pipeline.run, heads, pipeline.stack):
        say(f"stack    {pipeline.stack.model}: current (same heads, same options), skipped")
    else:
        started = time.monotonic()
        stack.run.fit(pipeline.run, heads, pipeline.stack)
        say(f"stack    {pipeline.stack.model}: fitted in {time.monotonic() - started:.1f} s")
    manifest = read_manifest(pipeline)
    metrics = score.run.score_run(pipeline.run, pipeline.score, heads, manifest)
    say(f"score    {pipeline.run / 'report' / 'metrics.json'}")
    return metrics, failed
