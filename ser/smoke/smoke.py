"""Whole pipelines on synthetic data, offline: the demo, and a smoke test with tiny models."""

import time
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from ser.corpus.atomic import file_in_place, write_durably
from ser.corpus.errors import UserError
from ser.engines.heads import Log
from ser.pipeline.file import Pipeline
from ser.presets import preset
from ser.score.scores import Metrics
from ser.smoke.shrink import shrink
from ser.stages.run import run_all
from ser.synthetic import speech
from ser.synthetic.corpus import WORDS, synthesize
from ser.synthetic.server import ChatServer

NOTE = "the audio is tones and the weights are random, so the scores mean nothing"


def demo(folder: Path, log: Log) -> tuple[Metrics, dict[str, str]]:
    """Run real models on synthetic speech, in minutes on two cores.

    Write `folder`/data/demo and `folder`/runs/demo; return metrics and failures as `run_all`.
    """
    corpus = folder / "data" / "demo"
    manifest = speech.synthesize(corpus)
    log(f"corpus   {corpus}: {len(manifest)} utterances of synthetic speech (espeak-ng)")
    path = folder / "runs" / "demo" / "demo.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, preset("demo"))
    return run_all(Pipeline.load(path, base=folder), "auto", log)


def smoke(pipeline: Pipeline, folder: Path, log: Log) -> tuple[Metrics, dict[str, str]]:
    """Run a scaled-down pipeline in `folder`; return metrics and failures as `run_all`.

    `folder` gets the corpus, the tiny models, `pipeline.yaml`, cache and run. Raises `UserError`
    as `require_new`, and for a pipeline that cannot be scaled down.
    """
    require_new(folder)
    folder = folder.resolve()  # pipeline.yaml names it, and paths in there are relative to the file
    started = time.monotonic()
    manifest = synthesize(folder, pipeline.corpus.classes)
    log(f"corpus   {folder / 'audio'}: {len(manifest)} synthetic utterances")
    path = folder / "pipeline.yaml"
    with ChatServer() as server:
        config = shrink(pipeline, folder, WORDS, server.url)
        write_durably(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        small = Pipeline.load(path)
        metrics, failed = run_all(small, "cpu", log)
    padded = padded_share(small)
    seconds = time.monotonic() - started
    log(f"smoke    {seconds:.0f} s, {padded:.1%} of the training frames were padding; {NOTE}")
    return metrics, failed


def require_new(folder: Path) -> None:
    """Raise `UserError` for a folder that is not empty or cannot be one."""
    if file := file_in_place(folder):
        raise UserError(f"{file}: it is a file; give a new folder.")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: it is not empty; give a new folder.")


def padded_share(pipeline: Pipeline) -> float:
    """Return the mean share of padded frames over all epochs of all heads."""
    histories = (pipeline.run / "heads" / name / "history.csv" for name in pipeline.systems)
    shares = [s for path in histories if path.exists() for s in pl.read_csv(path)["padded_share"]]
    return float(np.mean(shares)) if shares else 0.0
