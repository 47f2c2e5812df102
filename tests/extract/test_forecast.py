"""What an extraction still has to do: counted, and estimated from a sample."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from ser.corpus.manifest import Manifest
from ser.extract import forecast as module
from ser.extract.extractor import SAMPLE_RATE, parse_options
from ser.extract.forecast import Forecast, forecast
from ser.extract.job import Job
from ser.extract.run import extract

CLIPS, CACHED = 12, 8
FRAMES = 20  # of a clip; prosody has one in 10 ms, of 16 numbers
NBYTES = FRAMES * 16 * 2


def prosody_job(folder: Path, clips: int = CLIPS) -> Job:
    rng = np.random.default_rng(0)
    names = [f"u{i:02}" for i in range(CLIPS)]
    (folder / "audio").mkdir(exist_ok=True)
    for name in names:
        if not (folder / "audio" / name).exists():
            samples = rng.normal(0, 0.1, FRAMES * SAMPLE_RATE // 100)
            soundfile.write(folder / "audio" / name, samples, SAMPLE_RATE, format="WAV")
    frame = pl.DataFrame({"utterance": names, "path": names, "split": "train"}).head(clips)
    options = parse_options({"kind": "prosody"})
    return Job("prosody", options, Manifest(frame), folder / "audio", folder / "cache")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Return a job of twelve clips, of which eight are cached."""
    extract(prosody_job(tmp_path, CACHED), "cpu")
    return prosody_job(tmp_path)


def test_a_sample_gives_the_figures_of_all(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    assert forecast(job) == Forecast(4, 4 * NBYTES, CLIPS, CLIPS)
    monkeypatch.setattr(module, "MEASURED", 1)
    assert forecast(job) == Forecast(4, 4 * NBYTES, CLIPS, CLIPS)
    monkeypatch.setattr(module, "LOOKED_AT", 3)
    assert forecast(job) == Forecast(4, 4 * NBYTES, 6, CLIPS)
    empty = replace(job, cache=job.audio / "cache")
    assert forecast(empty) == Forecast(12, 12 * NBYTES, 3, CLIPS)


def test_changed_audio_is_missing_and_audio_that_is_not_there_is_not(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(0, CACHED, 2):
        shutil.copy(job.audio / "u11", job.audio / f"u{i:02}")
    assert forecast(job).utterances == 4 + 4
    monkeypatch.setattr(module, "LOOKED_AT", 7)  # of which four have changed
    assert forecast(job).utterances == 4 + round(4 * 8 / 7)
    for i in range(CACHED, CLIPS):
        (job.audio / f"u{i:02}").unlink()
    assert forecast(job).utterances == round(4 * 8 / 7)
