import re
from dataclasses import replace

import pytest

from ser.cache.logits import HeadLogits
from ser.corpus.errors import Note, UserError
from ser.pipeline.file import Pipeline
from ser.stages.extract import extract_features
from ser.stages.score import report_contents, score_pipeline, synthetic_share
from tests.cache.factories import make_logits
from tests.ser.commands.factories import write_run
from tests.ser.factories import PIPELINE


def scored_folder(tmp_path, **changes):
    """Write a run of one head with two dev rows, and no manifest; return its pipeline."""
    rows = replace(make_logits(2, "held-out"), groups=changes.pop("cells", None))
    head = HeadLogits("one", ("angry", "sad"), "f", {}, {"dev": rows}, **changes)
    head.write(tmp_path / "run/heads/one/logits.h5")
    text = PIPELINE.replace("[angry, sad, neutral]", "[angry, sad]")
    (tmp_path / "pipeline.yaml").write_text(re.sub("  two: .*\n", "", text))
    return Pipeline.load(tmp_path / "pipeline.yaml")


def test_without_the_manifest_the_logits_have_the_truth(tmp_path):
    cells = {"groups": ("gender",), "cells": [["Female"], ["Male"]]}
    pipeline = scored_folder(tmp_path, **cells, synthetic=0.5)
    sentence = (
        f"corpus.manifest: {tmp_path}/m.csv is not on this machine; labels and speakers are those "
        "stored with the logits"
    )
    with pytest.warns(Note) as notes:
        metrics = score_pipeline(pipeline)
    assert [str(note.message) for note in notes] == [f"{sentence}."]
    assert set(metrics["dev"]["one"].groups) == {"gender"}
    assert synthetic_share(pipeline) == 0.5


def test_older_logits_have_no_groups_and_that_is_said(tmp_path):
    pipeline = scored_folder(tmp_path)
    with pytest.warns(Note) as notes:
        metrics = score_pipeline(pipeline)
    assert str(notes[0].message).endswith(
        "stored with the logits. The logits do not store gender: to score by group, copy the "
        "manifest there, or train the heads again with `ser heads train-all --force` where it is."
    )
    assert metrics["dev"]["one"].groups == {}
    assert synthetic_share(pipeline) == 0


def test_the_report_explores_the_first_cached_feature_that_is_not_of_text(tmp_path):
    write_run(tmp_path)
    pipeline = Pipeline.load(tmp_path / "pipeline.yaml")
    metrics = score_pipeline(pipeline)
    explored = report_contents(pipeline, metrics).exploration
    assert (explored.embeddings, explored.durations, explored.layers) == (None, None, {})
    assert explored.counts.height == 30
    list(extract_features(pipeline, ["prosody"], "cpu"))
    explored = report_contents(pipeline, metrics).exploration
    assert (explored.embeddings.feature, explored.embeddings.of) == ("prosody", 30)
    assert explored.timed_by == "the frames of prosody"
    other = Pipeline.load(tmp_path / "pipeline.yaml", ["score.map=prosodi"])
    with pytest.raises(UserError) as error:
        report_contents(other, metrics)
    assert str(error.value) == (
        "score.map: 'prosodi' is not a feature of the pipeline; did you mean 'prosody'?"
    )
