"""One head of a run: whole and by folds, what its files say, what is kept on the way."""

import json
import os
from importlib.metadata import version

import numpy as np
import polars as pl
import pytest

from ser.cache.logits import HeadLogits
from ser.heads.run import train_heads
from ser.heads.trained import TrainedHead
from tests.heads.factories import make_job, make_manifest, make_trainer, with_ratings

FOLDS = {"features": ["a", "b"], "cross_fit": 3}


def fitted(job, name="one"):
    (report,) = train_heads(job, [name])
    assert report.done == "trained", report.error
    folder = job.run / "heads" / name
    return HeadLogits.read(folder / "logits.h5"), json.loads((folder / "head.json").read_text())


def test_every_row_of_train_is_scored_by_a_head_not_trained_on_its_speaker(tmp_path):
    job = make_job(tmp_path, one=FOLDS)
    logits, _ = fitted(job)
    train = logits.splits["train"]
    assert train.rows == "out-of-fold"
    assert set(train.fold) == {0, 1, 2}
    by_speaker = {
        s: {f for f, t in zip(train.fold, train.speaker, strict=True) if t == s}
        for s in train.speaker
    }
    assert all(len(folds) == 1 for folds in by_speaker.values())
    for split in ("dev", "test"):
        assert logits.splits[split].rows == "held-out"
        assert set(logits.splits[split].fold) == {-1}
        assert logits.splits[split].in_sample is None


def test_folds_are_trained_on_the_others_and_averaged_for_dev_and_test(tmp_path):
    job = make_job(tmp_path, one=FOLDS)
    logits, _ = fitted(job)
    train, said = logits.splits["train"], []
    for k in range(3):
        held_out = [u for u, f in zip(train.utterance, train.fold, strict=True) if f == k]
        manifest = make_manifest()
        hidden = pl.when(pl.col("utterance").is_in(held_out)).then(pl.lit("")).otherwise("split")
        without = type(manifest)(manifest.frame.with_columns(split=hidden), manifest.classes)
        alone = make_trainer(tmp_path / str(k), without, epochs=3)
        alone.fit()
        said.append({s: alone.predict(logits.splits[s].utterance)["logits"] for s in logits.splits})
        mask = train.fold == k
        np.testing.assert_array_equal(train.logits[mask], said[k]["train"][mask])
    for split in ("dev", "test"):
        mean = np.mean([each[split] for each in said], axis=0)
        np.testing.assert_array_equal(logits.splits[split].logits, mean)
    at = np.arange(len(train.fold))
    whole = np.stack([each["train"] for each in said])
    seen = (whole.sum(axis=0) - whole[train.fold.astype(int), at]) / 2
    np.testing.assert_allclose(train.in_sample, seen, rtol=1e-6)


def test_a_refit_speaks_for_dev_and_test_and_in_sample(tmp_path):
    heads = {
        "one": FOLDS | {"cross_fit": {"folds": 3, "final": "refit"}},
        "whole": {"features": ["a", "b"]},
    }
    job = make_job(tmp_path, **heads)
    logits, about = fitted(job)
    whole, _ = fitted(job, "whole")
    for split in ("dev", "test"):
        np.testing.assert_array_equal(logits.splits[split].logits, whole.splits[split].logits)
    np.testing.assert_array_equal(logits.splits["train"].in_sample, whole.splits["train"].logits)
    assert about["weights"] == ["head"]
    names = {p.name for p in (job.run / "heads" / "one").iterdir()}
    assert names == {"head.json", "head.safetensors", "history.csv", "logits.h5"}


def test_history_and_weights_of_every_fold_are_kept(tmp_path):
    job = make_job(tmp_path, one=FOLDS)
    _, about = fitted(job)
    folder = job.run / "heads" / "one"
    history = pl.read_csv(folder / "history.csv")
    assert history["fold"].to_list() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert about["weights"] == ["fold-0", "fold-1", "fold-2"]
    assert {p.name for p in folder.glob("*.safetensors")} == {
        f"fold-{k}.safetensors" for k in range(3)
    }
    assert set(about["best_epochs"]) == set(about["weights"])


def test_weights_of_another_kind_of_fitting_go(tmp_path):
    fitted(make_job(tmp_path, one={"features": ["a"]}))
    folder = tmp_path / "run" / "heads" / "one"
    assert (folder / "head.safetensors").exists()
    fitted(make_job(tmp_path, one={"features": ["a"], "cross_fit": 2}))
    assert not (folder / "head.safetensors").exists()
    assert not list(folder.glob(".*"))


def test_seeds_are_trained_one_by_one_and_averaged_into_one_head(tmp_path):
    heads = {f"seed-{k}": {"features": ["a", "b"], "seed": k} for k in (5, 6)}
    job = make_job(tmp_path, one={"features": ["a", "b"], "seed": 5, "seeds": 2}, **heads)
    logits, about = fitted(job)
    alone = [fitted(job, name)[0] for name in heads]
    for split, rows in logits.splits.items():
        mean = np.mean([one.splits[split].logits for one in alone], axis=0)
        np.testing.assert_array_equal(rows.logits, mean)
        assert np.abs(mean - alone[0].splits[split].logits).max() > 0.01
    assert about["weights"] == ["head", "head-seed-6"]
    history = pl.read_csv(tmp_path / "run" / "heads" / "one" / "history.csv")
    assert history["seed"].to_list() == [5, 5, 5, 6, 6, 6]


def test_every_fold_is_trained_with_every_seed(tmp_path):
    both = {"features": ["a"], "cross_fit": {"folds": 2, "final": "refit"}, "seeds": 2}
    entries = {"one": both, "first": both | {"seeds": 1}, "second": both | {"seeds": 1, "seed": 8}}
    job = make_job(tmp_path, **entries)
    one, first, second = (fitted(job, name)[0].splits for name in entries)
    for split in ("train", "test"):
        mean = (first[split].logits + second[split].logits) / 2
        np.testing.assert_allclose(one[split].logits, mean, rtol=1e-6)
    mean = (first["train"].in_sample + second["train"].in_sample) / 2
    np.testing.assert_allclose(one["train"].in_sample, mean, rtol=1e-6)
    head = TrainedHead.load(tmp_path / "run" / "heads" / "one")
    assert len(head.modules) == 2


def test_all_heads_have_the_same_folds(tmp_path):
    job = make_job(tmp_path, one=FOLDS, two=FOLDS | {"features": ["b"], "seed": 3})
    one, two = (fitted(job, name)[0].splits["train"] for name in ("one", "two"))
    assert one.fold.tolist() == two.fold.tolist()


def test_too_few_speakers_for_the_folds_is_reported_in_one_sentence(tmp_path):
    job = make_job(tmp_path, one=FOLDS | {"cross_fit": 7})
    (report,) = train_heads(job, ["one"])
    assert (report.done, report.error) == (
        "failed",
        "folds is 7, but there are only 6 speakers and a speaker is never split; set folds to 6 or "
        "less, or add more speakers.",
    )


def test_attributes_are_written_with_the_ratings(tmp_path):
    manifest = with_ratings(make_manifest())
    heads = {
        "both": {"features": ["a"], "loss": ["wce", "ccc"], "cross_fit": 2},
        "alone": {"features": ["a"], "loss": ["ccc"], "attributes": ["valence"]},
    }
    job = make_job(tmp_path, manifest, **heads)
    both, about = fitted(job, "both")
    assert both.attributes == ("arousal", "valence", "dominance")
    rows = both.splits["test"]
    expected = [manifest.column(name, rows.utterance) for name in both.attributes]
    assert rows.truth.T.tolist() == expected
    assert rows.predicted.shape == rows.truth.shape
    assert set(about["dev"]) == {"dev_macro_f1", "dev_uar", "dev_accuracy", "dev_ccc"}
    alone, about = fitted(job, "alone")
    assert alone.attributes == ("valence",)
    assert alone.splits["test"].logits.shape == (len(manifest.utterances("test")), 0)
    assert about["score"] == about["dev"]["dev_ccc"]


def test_without_epochs_the_given_weights_only_predict(tmp_path):
    first, _ = fitted(make_job(tmp_path, one={"features": ["a"]}))
    weights = (tmp_path / "run/heads/one/head.safetensors").rename(tmp_path / "given.safetensors")
    given = {"features": ["a"], "epochs": 0, "init": str(weights)}
    again, about = fitted(make_job(tmp_path, two=given), "two")
    for split in first.splits:
        assert first.splits[split].logits.tolist() == again.splits[split].logits.tolist()
    assert (about["epochs"], about["made_from"]["init"][:4]) == (0, about["made_from"]["init"][:4])
    assert about["score"] == about["dev"]["dev_macro_f1"]


@pytest.mark.parametrize(
    "log",
    ["tensorboard", *(pytest.param(log, marks=pytest.mark.slow) for log in ("mlflow", "wandb"))],
)
def test_epochs_are_reported_to_a_tracker(tmp_path, monkeypatch, log):
    pytest.importorskip(log)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    fitted(make_job(tmp_path, one={"features": ["a"], "log": log}))
    if log == "tensorboard":
        (events,) = (tmp_path / "run/heads/one/tensorboard/head").iterdir()
        assert b"dev_macro_f1" in events.read_bytes()
    elif log == "wandb":
        (record,) = (tmp_path / "run/heads/one/wandb").glob("offline-run-*/run-*.wandb")
        assert b"dev_macro_f1" in record.read_bytes()
        assert b"one/head" in record.read_bytes()
    else:
        import mlflow

        (run,) = mlflow.search_runs(output_format="list")
        assert run.data.metrics["dev_macro_f1"] > 0
        assert run.info.run_name == "one/head"


def test_head_json_has_machine_and_versions_and_the_fingerprint_does_not(tmp_path):
    _, about = fitted(make_job(tmp_path, one={"features": ["a"], "epochs": 1}))
    assert about["versions"]["torch"] == version("torch")
    assert (about["machine"]["cores"], about["machine"]["device"]) == (os.cpu_count(), "cpu")
    assert about["synthetic"] == 0.0
    assert not {"machine", "versions", "synthetic"} & set(about["made_from"])
