import json
import os
import signal

import numpy as np
import polars as pl
import pytest
import soundfile
from safetensors.numpy import load_file

from ser.cache.features import FeatureCache
from ser.cache.logits import HeadLogits
from ser.cache.precision import encode
from ser.corpus.errors import UserError
from ser.finetune.run import fine_tune
from ser.heads.run import Progress
from ser.heads.trained import TrainedHead
from ser.pipeline.file import Pipeline
from ser.predict.predictor import Predictor
from ser.stages.extract import extract_features
from ser.stages.heads import Callbacks
from ser.stages.run import run_all
from tests.ser.factories import CLASSES, ser, ser_warm
from tests.ser.finetune.factories import MODELS, job, make_pipeline

KILLER = """\
import os
import signal
from pathlib import Path

import ser.heads.training.checkpoint
from ser.heads.training.trainer import Trainer

ser.heads.training.checkpoint.SECONDS = 0.0  # after every step
own, steps = Trainer._step, []


def step(*given):
    steps.append(1)
    kill = Path(__file__).with_name("kill")
    if kill.exists() and len(steps) == int(kill.read_text()):
        kill.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return own(*given)


Trainer._step = step
"""


def logits(folder, name="ft"):
    return HeadLogits.read(folder / "run" / "heads" / name / "logits.h5")


def with_columns(folder, **columns):
    """Add columns to a manifest, each by class."""
    frame = pl.read_csv(folder / "m.csv")
    new = {n: [of[CLASSES.index(e)] for e in frame["emotion"]] for n, of in columns.items()}
    frame.with_columns(**{n: pl.Series(values) for n, values in new.items()}).write_csv(
        folder / "m.csv"
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_tuned_saved_and_at_once_a_feature_and_a_head(tmp_path, model):
    rest = "features:\n  tuned: {model: run/finetuned/ft, precision: float32}\n"
    lora = {"lora": "{rank: 2}", "ema": 0.5} if model in ("wavlm-layer", "whisper") else {}
    path = make_pipeline(tmp_path, model, 15, rest, **lora)
    words = ["what a day", "oh no", "well"]
    with_columns(tmp_path, transcript=words, synthetic=[True, False, False])
    report = fine_tune(job(path))
    assert (report.done, report.epochs) == ("trained", 1)
    done = json.loads((tmp_path / "run" / "heads" / "ft" / "head.json").read_text())
    assert (done["kind"], done["synthetic"]) == ("finetuned", 1 / 3)
    assert 0 < done["trainable_parameters"] <= done["parameters"]
    pipeline = Pipeline.load(path)
    (extracted,) = extract_features(pipeline, ["tuned"], "cpu")
    assert not extracted.failed
    cache = FeatureCache.open(tmp_path / "cache", "tuned")
    head = TrainedHead.load(tmp_path / "run" / "heads" / "ft")
    for rows in logits(tmp_path).splits.values():
        frames = [encode(cache.frames(u).copy(), "float32") for u in rows.utterance]
        np.testing.assert_allclose(head.predict({"ft": frames})["logits"], rows.logits, atol=1e-5)
    assert fine_tune(job(path)).done == "current"
    if lora:  # which has the most parts
        assert fine_tune(job(path), force=True).score == report.score
    assert (tmp_path / "run" / "finetuned" / "ft" / "adapter").exists() == bool(lora)


def test_attributes_and_classes_from_the_manifest_to_the_prediction(tmp_path):
    rest = "stack: {model: mean_proba, attributes: mean}\n"
    path = make_pipeline(tmp_path, "wav2vec2-layer", 45, rest, loss="[wce, ccc]", epochs=2)
    with_columns(tmp_path, arousal=[6.0, 2.0, 4.0], valence=[2.0, 3.0, 5.0], dominance=[5, 2, 3])
    lines: list[str] = []
    epochs: list[Progress] = []
    done: list[str] = []
    metrics, failed = run_all(
        Pipeline.load(path),
        "cpu",
        lines.append,
        callbacks=Callbacks(epochs.append, after_model=done.append),
    )
    assert not failed
    assert [(p.head, p.epoch, p.epochs) for p in epochs] == [("ft", 1, 2), ("ft", 2, 2)]
    assert done == ["ft"]
    assert lines[0].startswith("finetune ft: dev macro-F1 ")
    assert set(metrics["dev"]) == {"ft", "stack"}
    assert {"arousal", "valence", "dominance", "mean"} == set(metrics["dev"]["ft"].attributes)
    prediction = Predictor(tmp_path / "run")(str(tmp_path / "audio" / "u0.wav"))
    rows = logits(tmp_path).splits["train"]
    at = rows.utterance.index("u0")
    assert list(prediction.attributes.values()) == pytest.approx(
        rows.predicted[at].tolist(), abs=1e-4
    )
    again: list[str] = []
    run_all(Pipeline.load(path), "cpu", again.append)
    assert "finetune ft: up to date" in again[0]
    assert "up to date" in again[1]


def test_one_model_an_attribute_is_one_system(tmp_path):
    path = make_pipeline(tmp_path, loss="[ccc]", attributes="[arousal]")
    text = path.read_text()
    other = text.partition("ft: ")[2].partition("\n")[0].replace("[arousal]", "[valence]")
    path.write_text(text.replace("finetune:\n", f"finetune:\n  other: {other}\n"))
    path.write_text(path.read_text() + "stack: {attributes: mean}\n")
    with_columns(tmp_path, arousal=[6.0, 2.0, 4.0], valence=[2.0, 3.0, 5.0])
    metrics, _ = run_all(Pipeline.load(path), "cpu", lambda line: None)
    assert set(metrics["test"]["stack"].attributes) >= {"arousal", "valence"}


def test_what_it_was_made_of_makes_it_stale(tmp_path):
    path = make_pipeline(tmp_path, "whisper")
    fine_tune(job(path))
    assert fine_tune(job(path, "finetune.ft.epochs=2")).done == "trained"
    assert fine_tune(job(path)).done == "trained"
    frame = pl.read_csv(tmp_path / "m.csv")
    changed = pl.Series(["sad", *frame["emotion"].to_list()[1:]])
    frame.with_columns(emotion=changed).write_csv(tmp_path / "m.csv")
    assert fine_tune(job(path)).done == "trained"


def test_what_cannot_be_read_is_left_out_of_the_logits(tmp_path):
    path = make_pipeline(tmp_path, "whisper")
    for name in ("u0", "u9"):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", np.zeros(8000, np.float32), 16_000)
    (tmp_path / "audio" / "u1.wav").unlink()
    fine_tune(job(path))
    done = json.loads((tmp_path / "run" / "heads" / "ft" / "head.json").read_text())
    assert sorted(done["failed"]) == ["u0", "u1", "u9"]
    rows = logits(tmp_path).splits
    assert not {"u0", "u1", "u9"} & {u for split in rows.values() for u in split.utterance}
    assert all(np.isfinite(split.logits).all() for split in rows.values())


def test_nothing_to_train_on_is_reported_in_one_sentence(tmp_path):
    path = make_pipeline(tmp_path)
    frame = pl.read_csv(tmp_path / "m.csv").with_columns(split=pl.lit("test"))
    frame.with_columns(speaker=pl.lit("one")).write_csv(tmp_path / "m.csv")
    with pytest.raises(UserError, match=r"no utterance of the train split can be read; give some"):
        fine_tune(job(path))


def tune(folder, *words):
    return ser_warm("finetune", *words, cwd=folder)


@pytest.mark.slow
def test_killed_and_begun_again_it_has_the_same_curve(tmp_path):
    options = {"epochs": 3, "batch": 5, "ema": 0.5, "augment": "{noise: {}}", "lr": 1e-3}
    options |= {"dropout": 0.5}
    whole = make_pipeline(tmp_path / "whole", **options)
    fine_tune(job(whole))
    killed = make_pipeline(tmp_path / "killed", **options)
    killed.write_text(f"plugins: [killer]\n{killed.read_text()}")
    (killed.parent / "killer.py").write_text(KILLER)
    (killed.parent / "kill").write_text("7")  # of 12 steps, 4 an epoch: amid the second
    first = tune(killed.parent)
    assert first.returncode == -signal.SIGKILL
    assert not (killed.parent / "kill").exists()
    (killed.parent / "kill").write_text("7")  # it never gets there, when 6 steps are done
    second = tune(killed.parent)
    assert second.returncode == 0, second.stderr
    assert (killed.parent / "kill").exists()
    one, other = ((p.parent / "run" / "heads" / "ft") for p in (whole, killed))
    assert (one / "history.csv").read_text() == (other / "history.csv").read_text()
    for split, rows in logits(whole.parent).splits.items():
        np.testing.assert_array_equal(logits(killed.parent).splits[split].logits, rows.logits)
    assert not list(other.glob(".*"))


def test_an_unfinished_training_with_two_checkpoints_starts_again(tmp_path, caplog):
    path = make_pipeline(tmp_path)
    former = tmp_path / "run" / "heads" / "ft" / ".epoch.checkpoint"
    former.parent.mkdir(parents=True)
    former.write_bytes(b"of an earlier version")
    assert fine_tune(job(path)).done == "trained"
    assert [r.getMessage() for r in caplog.records if r.name == "ser.heads"] == [
        f"{former}: the unfinished training is of another version of ser, so it starts again."
    ]
    assert not former.exists()


def test_two_processes_are_one_with_the_doubled_batch(tmp_path):
    options = {"calm": True, "epochs": 2, "lr": 1e-4, "loss": "[wce, soft_f1]"}
    # 21 clips: steps of 10, 10 and 1, of which the second process has none
    alone = make_pipeline(tmp_path / "alone", "wav2vec2-layer", 33, batch=10, **options)
    fine_tune(job(alone))
    two = make_pipeline(tmp_path / "two", "wav2vec2-layer", 33, batch=5, **options)
    done = tune(two.parent, "--processes", "2", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finetune ft: dev macro-F1") == 1
    runs = [path.parent / "run" for path in (alone, two)]
    for file in ("finetuned/ft/model.safetensors", "heads/ft/head.safetensors"):
        one, other = (load_file(run / file) for run in runs)
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, atol=1e-5, err_msg=name)
    one, other = (pl.read_csv(run / "heads" / "ft" / "history.csv") for run in runs)
    for name in one.columns:
        np.testing.assert_allclose(other[name], one[name], atol=1e-5)
    for split, rows in logits(alone.parent).splits.items():
        assert logits(two.parent).splits[split].utterance == rows.utterance
        np.testing.assert_allclose(logits(two.parent).splits[split].logits, rows.logits, atol=1e-5)


def test_a_name_that_is_not_there(tmp_path):
    make_pipeline(tmp_path)
    done = ser("finetune", "other", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr == "ser: pipeline.yaml: there is no 'other' under finetune; choose from ft.\n"
    )
    assert os.listdir(tmp_path).count("run") == 0  # noqa: PTH208
