"""A smoke test of a pipeline: all its stages on made-up data with tiny models, no network."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from cache.files import write_durably
from corpus.errors import UserError
from ser.heads import Say
from ser.pipeline import Pipeline
from ser.presets.corpus import WORDS, synthesize
from ser.presets.server import ChatServer
from ser.presets.shrink import shrink
from ser.run import run_all

NOTE = "tones and random weights: what was run is the machinery, and the scores mean nothing"


def smoke(pipeline: Pipeline, folder: Path, say: Say) -> tuple[dict[str, Any], dict[str, str]]:
    """Run a pipeline, made small, in `folder`; return metrics and failures as `run_all`.

    `folder` gets the corpus, the tiny models, `pipeline.yaml`, cache and run. Raises `UserError`
    when something is there already, and for what cannot be made small.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: it is not empty; give a folder that is new.")
    started = time.monotonic()
    manifest = synthesize(folder, pipeline.corpus.classes)
    say(f"corpus   {folder / 'audio'}: {len(manifest)} made-up utterances")
    path = folder / "pipeline.yaml"
    with ChatServer() as server:
        said = shrink(pipeline, folder, WORDS, server.url)
        write_durably(path, yaml.safe_dump(said, sort_keys=False, allow_unicode=True))
        small = Pipeline.load(path)
        metrics, failed = run_all(small, "cpu", say)
    padded = padded_share(small)
    seconds = time.monotonic() - started
    say(f"smoke    {seconds:.0f} s, {padded:.1%} of the frames in training padded; {NOTE}")
    return metrics, failed


def padded_share(pipeline: Pipeline) -> float:
    """Return the mean share of padded frames over the epochs of all that was trained."""
    found = (pipeline.run / "heads" / name / "history.csv" for name in pipeline.systems)
    shares = [s for path in found if path.exists() for s in pl.read_csv(path)["padded_share"]]
    return float(np.mean(shares)) if shares else 0.0
