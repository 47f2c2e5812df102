import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ser.cache.json_file import json_checksum
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.score.config import ScoreConfig
from ser.score.run import best, score_run
from ser.score.scores import plain_values, read_metrics
from ser.score.speakers import UNKNOWN

TRAIN = ([[1, 0]], [0])
GOOD = {"train": TRAIN, "dev": ([[2, 0], [0, 2], [0, 1]], [0, 1, -1]), "": ([[0, 9]], [-1])}
POOR = {"train": TRAIN, "dev": ([[2, 0], [2, 0], [0, 1]], [0, 1, -1]), "": ([[9, 0]], [-1])}


def write_stack(run: Path, heads: dict[str, str], classes=("angry", "sad")) -> None:
    (run / "stack").mkdir()
    (run / "stack" / "stack.json").write_text(json.dumps({"heads": heads, "classes": classes}))
    pl.DataFrame(
        {
            "utterance": ["dev1", "dev0", "dev2", "train0", "un0"],
            "split": ["dev", "dev", "dev", "train", ""],
            "prediction": ["angry", "sad", "sad", "angry", "sad"],
            "p.angry": [0.9, 0.2, 0.3, 0.6, 0.25],
            "p.sad": [0.1, 0.8, 0.7, 0.4, 0.75],
        }
    ).write_parquet(run / "stack" / "predictions.parquet")


def scored(run, *arguments):
    """Score a run; return what its metrics.json holds."""
    metrics, file = score_run(run, *arguments), run / "report" / "metrics.json"
    assert read_metrics(file) == metrics
    plain = plain_values(metrics)
    assert json.loads(file.read_text()) == plain | {"crc32c": json_checksum(plain)}
    return plain


def test_metrics_json_holds_every_head_on_every_labelled_split(tmp_path, write_head):
    write_head("poor", POOR)
    write_head("good", GOOD)
    metrics = scored(tmp_path, ScoreConfig(), ["poor", "good"])
    assert list(metrics) == ["dev"]
    assert list(metrics["dev"]) == ["poor", "good"]
    assert metrics["dev"]["good"] == {
        "macro_f1": 1.0,
        "micro_f1": 1.0,
        "accuracy": 1.0,
        "uar": 1.0,
        "per_class": {"angry": 1.0, "sad": 1.0},
        "bootstrap": {"mean": 1.0, "min": 1.0, "max": 1.0},
        "interval": {
            "macro_f1": [1.0, 1.0],
            "uar": [1.0, 1.0],
            "accuracy": [1.0, 1.0],
            "per_class": {"angry": [1.0, 1.0], "sad": [1.0, 1.0]},
        },
        "ece": pytest.approx(1 - 0.880797),
        "aurc": 0.0,
        "risk": [0.0] * 20,
        "groups": {},
        "clusters": 2,
        "speakers": None,
        "speakers_note": UNKNOWN,
        "n": 2,
        "confusion": [[1, 0], [0, 1]],
        "train": {"in_sample": 1.0, "out_of_fold": None, "optimism": None},
    }
    assert metrics["dev"]["poor"]["per_class"] == {"angry": pytest.approx(2 / 3), "sad": 0.0}


def test_predictions_csv_is_of_the_best_head_and_has_every_split(tmp_path, write_head):
    write_head("poor", POOR)
    write_head("good", GOOD)
    scored(tmp_path, ScoreConfig(), ["poor", "good"])
    assert (tmp_path / "report" / "predictions.csv").read_text().splitlines() == [
        "utterance,split,emotion,prediction,p.angry,p.sad",
        "train0,train,angry,angry,0.731059,0.268941",
        "dev0,dev,angry,angry,0.880797,0.119203",
        "dev1,dev,sad,sad,0.119203,0.880797",
        "dev2,dev,,sad,0.268941,0.731059",
        'un0,"",,sad,0.000123,0.999877',
    ]


def test_without_labels_there_are_predictions_of_the_first_head_and_no_metrics(
    tmp_path, write_head
):
    write_head("only", {"": ([[1, 0]], [-1])})
    assert scored(tmp_path, ScoreConfig(), ["only"]) == {}
    assert pl.read_csv(tmp_path / "report" / "predictions.csv")["prediction"].to_list() == ["angry"]


def test_the_predictions_are_the_stacks_even_without_labels(tmp_path, write_head):
    write_head("only", {"": ([[1, 0]], [-1])})
    write_stack(tmp_path, {"only": "f"})
    scored(tmp_path, ScoreConfig(), ["only"])
    assert pl.read_csv(tmp_path / "report" / "predictions.csv").height == 5  # the head has one row


def test_the_stack_is_scored_by_id_and_its_predictions_are_the_ones_written(tmp_path, write_head):
    write_head("good", GOOD)
    write_stack(tmp_path, {"good": "f"})
    metrics = scored(tmp_path, ScoreConfig(), ["good"])
    assert metrics["dev"]["stack"]["confusion"] == [[0, 1], [1, 0]]
    table = pl.read_csv(tmp_path / "report" / "predictions.csv")
    assert table["utterance"].to_list() == ["dev1", "dev0", "dev2", "train0", "un0"]
    assert table["emotion"].to_list() == ["sad", "angry", None, "angry", None]
    assert table["p.sad"].to_list() == [0.1, 0.8, 0.7, 0.4, 0.75]


def test_a_stack_of_older_logits_is_refused(tmp_path, write_head):
    write_head("good", GOOD)
    write_stack(tmp_path, {"good": "older"})
    with pytest.raises(UserError) as error:
        score_run(tmp_path, ScoreConfig(), ["good"])
    assert str(error.value) == (
        f"{tmp_path}/stack/stack.json: the stack was fitted on other logits of head 'good'; fit it "
        "again with `ser stack fit`."
    )


def test_a_stack_of_other_classes_is_refused(tmp_path, write_head):
    write_head("good", GOOD)
    write_stack(tmp_path, {"good": "f"}, classes=("sad", "angry"))
    with pytest.raises(UserError) as error:
        score_run(tmp_path, ScoreConfig(), ["good"])
    assert str(error.value) == (
        f"{tmp_path}/stack/stack.json: the stack's classes are sad, angry, but those of head "
        "'good' are angry, sad; fit it again with `ser stack fit`."
    )


def test_a_head_may_not_be_called_stack(tmp_path):
    with pytest.raises(UserError) as error:
        score_run(tmp_path, ScoreConfig(), ["stack"])
    assert str(error.value) == (
        f"{tmp_path}: a head may not be called 'stack'; rename it in pipeline.yaml."
    )


def manifest(emotions: dict[str, str | None]) -> Manifest:
    return Manifest(
        pl.DataFrame(
            {"utterance": list(emotions), "path": "x.wav", "emotion": list(emotions.values())},
            schema_overrides={"emotion": pl.String()},
        ),
        source="m.csv",
    )


def test_the_manifests_labels_are_used_by_id_and_by_name(tmp_path, write_head):
    write_head("good", GOOD)
    # Its only class is sad, so that index 0 means sad to the manifest and angry to the head.
    labels = manifest({"un0": None, "dev2": "sad", "dev1": None, "dev0": None, "train0": None})
    metrics = scored(tmp_path, ScoreConfig(), ["good"], labels)
    assert metrics["dev"]["good"]["confusion"] == [[0, 0], [0, 1]]
    table = pl.read_csv(tmp_path / "report" / "predictions.csv")
    assert table["emotion"].to_list() == [None, None, None, "sad", None]


def test_a_manifest_that_lacks_an_utterance_is_refused(tmp_path, write_head):
    write_head("good", GOOD)
    with pytest.raises(UserError) as error:
        score_run(tmp_path, ScoreConfig(), ["good"], manifest({"dev0": "angry"}))
    assert str(error.value) == (
        "m.csv: utterance 'dev1', which head 'good' has logits of, is missing; score with the "
        "manifest that the heads were trained on."
    )


def test_a_manifest_of_other_classes_is_refused(tmp_path, write_head):
    write_head("good", {"dev": ([[1, 0]], [0])})
    with pytest.raises(UserError) as error:
        score_run(tmp_path, ScoreConfig(), ["good"], manifest({"dev0": "fear"}))
    assert str(error.value) == (
        "m.csv: emotion 'fear' of 'dev0' is not a class of the heads (angry, sad); train them with "
        "the same corpus.classes."
    )


def rated(truth, predicted, speaker=None) -> dict:
    fields = {"truth": np.array(truth, float), "predicted": np.array(predicted, float)}
    return fields | ({"speaker": speaker} if speaker else {})


def test_a_head_of_attributes_alone_is_scored_by_them(tmp_path, write_head):
    truth, predicted = [[1.0], [2.0], [3.0], [np.nan]], [[2.0], [2.0], [5.0], [9.0]]
    dev = {"dev": ([], [0, 1, -1, -1])}
    write_head("a", dev, attributes=("valence",), more={"dev": rated(truth, predicted)})
    metrics = scored(tmp_path, ScoreConfig(), ["a"])
    assert list(metrics) == ["dev"]
    entry = metrics["dev"]["a"]
    assert set(entry) == {"attributes", "groups", "clusters", "speakers", "speakers_note"}
    assert entry["clusters"] == 3
    valence, mean = entry["attributes"]["valence"], entry["attributes"]["mean"]
    assert (valence["ccc"], valence["n"]) == (pytest.approx(6 / 11), 3)
    assert valence["interval"] == mean["interval"]
    assert valence["interval"][0] <= valence["ccc"] <= valence["interval"][1]
    assert [sum(row) for row in valence["confusion"]] == [1, 1, 1, 0, 0, 0]
    assert (tmp_path / "report" / "predictions.csv").read_text().splitlines() == [
        "utterance,split,emotion,predicted.valence",
        "dev0,dev,angry,2.000000",
        "dev1,dev,sad,2.000000",
        "dev2,dev,,5.000000",
        "dev3,dev,,9.000000",
    ]


def test_a_head_of_both_has_both_and_each_best_head_is_written(tmp_path, write_head):
    truth = [[1.0, 3.0], [2.0, np.nan], [3.0, 5.0]]
    good = rated(truth, [[1.0, 3.0], [2.0, 1.0], [3.0, 5.0]])
    poor = rated(truth, [[3.0, 5.0], [2.0, 1.0], [1.0, 3.0]])
    both, dev = ("arousal", "valence"), {"dev": GOOD["dev"]}
    write_head("classifies", dev, attributes=both, more={"dev": poor})
    write_head("rates", {"dev": ([], GOOD["dev"][1])}, attributes=both, more={"dev": good})
    metrics = score_run(tmp_path, ScoreConfig(), ["classifies", "rates"])
    entry = plain_values(metrics)["dev"]["classifies"]
    assert (entry["macro_f1"], entry["n"], entry["clusters"]) == (1.0, 2, 3)
    assert entry["attributes"]["arousal"]["ccc"] == pytest.approx(-1.0)
    assert metrics["dev"]["rates"].mean.ccc == pytest.approx(1.0)
    assert best(metrics["dev"], "macro_f1") == "classifies"
    assert best(metrics["dev"], "ccc") == "rates"
    table = pl.read_csv(tmp_path / "report" / "predictions.csv")
    assert table["prediction"].to_list() == ["angry", "sad", "sad"]
    assert table["predicted.arousal"].to_list() == [1.0, 2.0, 3.0]


def test_speakers_with_ratings_alone_do_not_count_against_the_classes(tmp_path, write_head):
    truth = [[np.nan, np.nan], [3.0, np.nan], [5.0, np.nan]]
    both, dev = ("arousal", "valence"), {"dev": ([[1, 0]] * 3, [0, -1, -1])}
    write_head("a", dev, attributes=both, more={"dev": rated(truth, [[1, 1], [3, 3], [4, 4]])})
    entry = scored(tmp_path, ScoreConfig(), ["a"])["dev"]["a"]
    assert entry["interval"]["accuracy"] == [1.0, 1.0]
    attributes = entry["attributes"]
    assert attributes["valence"]["interval"] is None
    assert attributes["arousal"]["interval"] is not None
    assert attributes["mean"]["interval"] == attributes["arousal"]["interval"]


def test_a_stack_that_predicts_attributes_is_scored_by_them(tmp_path, write_head):
    good = rated([[1.0], [2.0], [3.0]], [[3.0], [2.0], [1.0]])
    write_head("a", {"dev": GOOD["dev"]}, attributes=("arousal",), more={"dev": good})
    write_stack(tmp_path, {"a": "f"})
    path = tmp_path / "stack" / "predictions.parquet"
    frame = pl.read_parquet(path).filter(pl.col("split") == "dev")
    predicted = pl.Series("predicted.arousal", [2.0, 1.0, 3.0])  # of dev1, dev0, dev2
    frame.with_columns(predicted).write_parquet(path)
    metrics = scored(tmp_path, ScoreConfig(), ["a"])
    assert metrics["dev"]["stack"]["attributes"]["arousal"]["ccc"] == pytest.approx(1.0)
    table = pl.read_csv(tmp_path / "report" / "predictions.csv")
    assert table["predicted.arousal"].to_list() == [2.0, 1.0, 3.0]


def test_train_reports_the_generalization_gap_and_out_of_fold_scores(tmp_path, write_head):
    right, wrong = [[1, 0], [0, 1]], [[0, 1], [1, 0]]
    splits = {"train": (right, [0, 1]), "test": ([[1, 0], [1, 0]], [0, 1])}
    write_head("plain", splits)
    folds = {"in_sample": np.array(right, float), "rows": "out-of-fold"}
    write_head("folds", {**splits, "train": (wrong, [0, 1])}, more={"train": folds})
    write_head(
        "bare", {**splits, "train": (wrong, [0, 1])}, more={"train": {"rows": folds["rows"]}}
    )
    metrics = scored(tmp_path, ScoreConfig(), ["plain", "folds", "bare"])
    optimism = pytest.approx(1 - 1 / 3)  # on test: F1 of angry 2/3, of sad 0
    assert {name: numbers["train"] for name, numbers in metrics["test"].items()} == {
        "plain": {"in_sample": 1.0, "out_of_fold": None, "optimism": optimism},
        "folds": {"in_sample": 1.0, "out_of_fold": 0.0, "optimism": optimism},
        "bare": {"in_sample": None, "out_of_fold": 0.0, "optimism": None},
    }


def test_without_a_test_set_optimism_is_unknown(tmp_path, write_head):
    write_head("good", GOOD)
    metrics = scored(tmp_path, ScoreConfig(), ["good"])
    assert metrics["dev"]["good"]["train"]["optimism"] is None


def test_groups_of_the_manifest_are_scored(tmp_path, write_head):
    write_head("good", {"dev": GOOD["dev"]})
    frame = pl.DataFrame(
        {
            "utterance": ["dev2", "dev1", "dev0"],
            "path": "x.wav",
            "emotion": ["angry", "sad", "angry"],
            "speaker": ["x", "y", "z"],
            "gender": ["m", "f", "f"],
        }
    )
    labels = Manifest(frame, ("angry", "sad"))
    config = ScoreConfig(groups=("gender", "transcript"))  # of which nothing is known
    groups = scored(tmp_path, config, ["good"], labels)["dev"]["good"]["groups"]
    assert set(groups) == {"gender"}
    by_group = groups["gender"]
    assert {group: by_group[group]["accuracy"] for group in "fm"} == {"f": 1.0, "m": 0.0}
    assert by_group["gap"]["accuracy"]["difference"] == 1.0


def test_groups_are_scored_by_their_attributes_too(tmp_path, write_head):
    ratings = [1.0, 2.0, 3.0, 4.0]
    predicted = rated([[r] for r in ratings], [[1.0], [2.0], [4.0], [3.0]])
    write_head("a", {"dev": ([], [-1] * 4)}, attributes=("arousal",), more={"dev": predicted})
    frame = pl.DataFrame(
        {
            "utterance": [f"dev{i}" for i in range(4)],
            "path": "x.wav",
            "gender": ["f", "f", "m", "m"],
            "arousal": ratings,
        }
    )
    entry = scored(tmp_path, ScoreConfig(), ["a"], Manifest(frame, ("angry", "sad")))["dev"]["a"]
    by_group = entry["groups"]["gender"]
    assert {group: by_group[group]["ccc"] for group in "fm"} == pytest.approx({"f": 1.0, "m": -1.0})
    gap = by_group["gap"]["ccc"]
    assert (gap["difference"], gap["highest"]) == (pytest.approx(2.0), "f")
    assert entry["attributes"]["mean"]["ccc"] == pytest.approx(0.8)


def test_the_interval_is_over_speakers(tmp_path, write_head):
    logits, labels = [[1, 0], [0, 1]] * 6, [0, 1] * 3 + [1, 0] * 3
    # Three speakers are all right and three all wrong: the accuracy of a resample is n / 6.
    six = {"dev": {"speaker": [f"s{i // 2}" for i in range(12)]}}
    write_head("a", {"dev": (logits, labels)}, more=six)
    entry = scored(tmp_path, ScoreConfig(), ["a"])["dev"]["a"]
    assert (entry["accuracy"], entry["clusters"], entry["speakers"]) == (0.5, 6, 6)
    assert entry["interval"]["accuracy"] == pytest.approx([1 / 6, 5 / 6])  # P(0) = P(1) = 1/64
    note = "6 dev speakers: with fewer than 20, intervals and p-values are rough."
    assert entry["speakers_note"] == note


def test_under_five_speakers_every_interval_is_null(tmp_path, write_head):
    logits, labels = [[1, 0], [0, 1]] * 6, [0, 1] * 3 + [1, 0] * 3
    four = {"dev": {"speaker": [f"s{i % 4}" for i in range(12)]}}
    write_head("a", {"dev": (logits, labels)}, more=four)
    entry = scored(tmp_path, ScoreConfig(), ["a"])["dev"]["a"]
    assert (entry["accuracy"], entry["clusters"], entry["speakers"]) == (0.5, 4, 4)
    none = dict.fromkeys(("macro_f1", "uar", "accuracy"))
    assert entry["interval"] == none | {"per_class": {"angry": None, "sad": None}}
    assert entry["speakers_note"] == (
        "4 dev speakers: too few for intervals and p-values, which need at least 5."
    )


def test_the_same_call_gives_the_same_numbers_and_another_seed_does_not(tmp_path, write_head):
    rng = np.random.default_rng(0)
    write_head("a", {"dev": (rng.normal(size=(40, 2)), rng.integers(0, 2, 40))})
    metrics = scored(tmp_path, ScoreConfig(), ["a"])
    assert metrics == scored(tmp_path, ScoreConfig(), ["a"])
    other = scored(tmp_path, ScoreConfig(seed=1), ["a"])
    assert other["dev"]["a"]["interval"] != metrics["dev"]["a"]["interval"]


def test_heads_of_different_utterances_are_refused(tmp_path, write_head):
    write_head("good", GOOD)
    write_head("less", {**GOOD, "dev": ([[2, 0]], [0])})
    with pytest.raises(UserError) as error:
        score_run(tmp_path, ScoreConfig(), ["good", "less"])
    assert str(error.value) == (
        f"{tmp_path}/heads/less/logits.h5: head 'less' lacks utterance 'dev1' of dev, which head "
        "'good' has (2 such utterances); train both on one manifest."
    )
