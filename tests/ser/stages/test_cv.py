"""Cross-validation of a small corpus: the runs it writes, the pooled result, and resuming it."""

import json

import polars as pl
import pytest

from ser.cache.logits import HeadLogits
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.corpus.rotations import RotationConfig
from ser.pipeline.file import Pipeline, read_manifest
from ser.score.rotations import Rotations
from ser.score.scores import read_metrics
from ser.stages.cv import plan, pool, pooled_file, runs_of
from ser.stages.heads import Callbacks
from ser.stages.score import score_pipeline
from ser.stages.subruns import run_subruns
from tests.ser.stages.factories import SPEAKERS, pipeline_of


def run(pipeline, seeds=1, jobs=1):
    heads = []
    planned = plan(pipeline, pipeline.cv, seeds)
    follow = Callbacks(after_head=heads.append)
    assert run_subruns(runs_of(planned), "cpu", jobs, print, follow) == (True, {})
    result = pool(planned, pipeline.cv.by)
    return result, {head.name: head.done for head in heads}


@pytest.mark.usefixtures("warm_workers")
def test_rotations_are_runs_that_are_pooled_scored_and_resumed(tmp_path):
    pipeline = pipeline_of(tmp_path)
    result, done = run(pipeline, seeds=2)
    names = [f"{seed}speaker-{s}/one" for seed in ("", "seed-2/") for s in SPEAKERS]
    assert done == dict.fromkeys(names, "trained")

    folder = tmp_path / "run" / "cv" / "speaker"
    second = Pipeline.load(folder / "speaker-b" / "pipeline.yaml")
    manifest = Manifest.read(folder / "speaker-b" / "m.parquet")
    splits = dict(manifest.frame.select("speaker", "split").unique().iter_rows())
    assert splits == {"a": "train", "b": "test", "c": "dev"}
    assert (second.run, second.cache) == (folder / "speaker-b", pipeline.cache)
    assert manifest.audio_folder(second.corpus.audio) == tmp_path / "audio"
    assert len(list((tmp_path / "cache" / "prosody").iterdir())) == 1
    other = Pipeline.load(folder / "seed-2" / "speaker-b" / "pipeline.yaml")
    assert other.heads["one"].seed == second.heads["one"].seed + 100

    pooled = HeadLogits.read(folder / "heads" / "one" / "logits.h5").splits["test"]
    assert sorted(pooled.utterance) == sorted(f"u{i}" for i in range(18))
    own = HeadLogits.read(second.run / "heads" / "one" / "logits.h5").splits["test"]
    rows = [pooled.utterance.index(u) for u in own.utterance]
    assert (pooled.logits[rows] == own.logits).all()
    assert result.metrics["test"]["one"].classes.n == 18
    assert result.metrics["test"]["stack"].clusters == 3
    assert read_metrics(folder / "report" / "metrics.json") == result.metrics
    assert pooled_file(pipeline, "speaker") == folder / "pipeline.yaml"
    assert score_pipeline(result.pooled) == result.metrics
    scored = json.loads((second.run / "report" / "metrics.json").read_text())
    assert (scored["test"]["one"]["n"], scored["dev"]["one"]["n"]) == (6, 6)

    rotations = Rotations.read(folder / "rotations.json")
    assert [part.name for part in rotations.rotations] == [f"speaker-{s}" for s in SPEAKERS]
    first, repeated = rotations.repetitions
    assert first.scores["one"]["macro_f1"] == result.metrics["test"]["one"].score("macro_f1")
    seed_2 = Rotations.read(folder / "seed-2" / "rotations.json")
    assert (repeated.seed, seed_2.repetitions) == (2, [])

    for name in ("speaker-a", "speaker-c"):  # as if they had been interrupted
        (folder / name / "heads" / "one" / "head.json").unlink()
    again, done = run(pipeline, seeds=2, jobs=2)
    trained = [name for name, outcome in done.items() if outcome == "trained"]
    assert sorted(trained) == ["speaker-a/one", "speaker-c/one"]
    assert len(done) == 6 and again.metrics == result.metrics


def test_the_section_of_the_file_and_what_cannot_be_rotated(tmp_path):
    pipeline = pipeline_of(tmp_path, "{by: speaker, groups: 3, dev: share}")
    assert pipeline.cv == RotationConfig(by="speaker", groups=3, dev="share")
    with pytest.raises(UserError) as error:
        pooled_file(pipeline, "speaker")
    assert str(error.value) == (
        f"{tmp_path}/run/cv/speaker: there is no finished cross-validation by 'speaker' (none is "
        "finished); run `ser cv --by speaker`."
    )
    tuned = tmp_path / "tuned.yaml"
    text = (tmp_path / "pipeline.yaml").read_text()
    tuned.write_text(text + "finetune:\n  w: {model: microsoft/wavlm-large, kind: speech}\n")
    with pytest.raises(UserError, match="finetune: a fine-tuned model has seen the speakers"):
        plan(Pipeline.load(tuned), RotationConfig())
    (tmp_path / "wrong.yaml").write_text(text.replace("dev: share", "dev: last"))
    with pytest.raises(UserError, match=r"wrong.yaml:10: cv.dev: "):
        Pipeline.load(tmp_path / "wrong.yaml")


def test_a_rotation_has_the_classes_of_the_pipeline(tmp_path):
    pipeline_of(tmp_path)
    text = (tmp_path / "pipeline.yaml").read_text()
    merged = "classes: [angry, neutral], map: {sad: angry}, others: drop"
    (tmp_path / "pipeline.yaml").write_text(text.replace("classes: [angry, sad, neutral]", merged))
    frame = pl.read_csv(tmp_path / "m.csv").with_columns(
        emotion=pl.when(pl.col("utterance") == "u0").then(pl.lit("bored")).otherwise("emotion")
    )
    frame.write_csv(tmp_path / "m.csv")
    pipeline = Pipeline.load(tmp_path / "pipeline.yaml")
    [repetition] = plan(pipeline, pipeline.cv)
    rotation = read_manifest(repetition.runs["speaker-a"])
    assert rotation.frame["emotion"].value_counts().sort("emotion").rows() == [
        ("angry", 11),
        ("neutral", 6),
    ]
    assert "u0" not in rotation.utterances()
