"""`ser demo`: synthesized speech, real models, the whole pipeline in a few minutes on two cores."""

from pathlib import Path
from typing import Any

from cache.files import write_durably
from presets import preset
from ser.heads import Say
from ser.pipeline import Pipeline
from ser.run import run_all
from ser.synthesis import synthesize

NOTE = (
    "The clips are synthesized: these scores show that the machinery works. They say nothing about "
    "emotion in real speech."
)


def demo(folder: Path, say: Say) -> tuple[dict[str, Any], dict[str, str]]:
    """Make `folder`/data/demo and `folder`/runs/demo; return metrics and failures as `run_all`."""
    corpus = folder / "data" / "demo"
    manifest = synthesize(corpus)
    say(f"corpus   {corpus}: {len(manifest)} utterances by espeak-ng")
    path = folder / "runs" / "demo" / "demo.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, preset("demo"))
    result = run_all(Pipeline.load(path, base=folder), "auto", say)
    say(NOTE)
    return result
