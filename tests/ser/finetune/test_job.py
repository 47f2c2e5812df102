"""What the fingerprint of a fine-tuning is taken of."""

from pathlib import Path

import polars as pl

from ser.corpus.manifest import Manifest
from ser.extract.models import Weights
from ser.extract.sources import AudioSources
from ser.finetune.config import parse_finetune
from ser.finetune.job import FineTuneJob, finetune_spec


def model_of(**options):
    """Return the part of the spec that is about the model."""
    config = parse_finetune("ft", {"model": "wavlm-large", **options})
    manifest = Manifest(pl.DataFrame({"utterance": ["a"], "path": ["a.wav"]}))
    job = FineTuneJob(Path(), "ft", config, manifest, AudioSources(manifest, Path()))
    return finetune_spec(job, Weights(Path(), "digest"), {"a": 1}, ["a"])["model"]


def test_the_options_of_views_count_and_defaults_leave_it_as_it_was():
    assert model_of(augment={"noise": {}})["augment"] == {"noise": {"seed": 7}}
    augment = {"noise": {"snr": [10, 20]}, "speed": {"seed": 8}}
    expected = {"noise": {"seed": 7, "snr": [10.0, 20.0]}, "speed": {"seed": 8}}
    assert model_of(augment=augment)["augment"] == expected
