"""`ser demo`: a whole pipeline on synthetic speech with real models, in minutes on two cores."""

from pathlib import Path

from ser.corpus.atomic import write_durably
from ser.engines.heads import Log
from ser.pipeline.file import Pipeline
from ser.presets import preset
from ser.score.scores import Metrics
from ser.stages.run import run_all
from ser.synthetic.speech import synthesize


def demo(folder: Path, log: Log) -> tuple[Metrics, dict[str, str]]:
    """Write `folder`/data/demo and `folder`/runs/demo; return metrics and failures as `run_all`."""
    corpus = folder / "data" / "demo"
    manifest = synthesize(corpus)
    log(f"corpus   {corpus}: {len(manifest)} utterances of synthetic speech (espeak-ng)")
    path = folder / "runs" / "demo" / "demo.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, preset("demo"))
    return run_all(Pipeline.load(path, base=folder), "auto", log)
