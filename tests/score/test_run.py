import io
import json
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from corpus.config import MSP_CLASSES
from corpus.errors import UserError
from corpus.manifest import Manifest
from score.config import ScoreConfig
from score.run import render, score_run

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


def printed(metrics, width=80) -> str:
    console = Console(file=io.StringIO(), width=width)
    render(metrics, console)
    return console.file.getvalue()


def test_metrics_json_holds_every_head_on_every_labelled_split(tmp_path, write_head):
    write_head("poor", POOR)
    write_head("good", GOOD)
    metrics = score_run(tmp_path, ScoreConfig(), ["poor", "good"])
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == metrics
    assert list(metrics) == ["dev"]
    assert list(metrics["dev"]) == ["poor", "good"]
    assert metrics["dev"]["good"] == {
        "macro_f1": 1.0,
        "micro_f1": 1.0,
        "accuracy": 1.0,
        "uar": 1.0,
        "per_class": {"angry": 1.0, "sad": 1.0},
        "bootstrap": {"mean": 1.0, "min": 1.0, "max": 1.0},
        "n": 2,
        "confusion": [[1, 0], [0, 1]],
    }
    assert metrics["dev"]["poor"]["per_class"] == {"angry": pytest.approx(2 / 3), "sad": 0.0}


def test_predictions_csv_is_of_the_best_head_and_has_every_split(tmp_path, write_head):
    write_head("poor", POOR)
    write_head("good", GOOD)
    score_run(tmp_path, ScoreConfig(), ["poor", "good"])
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
    assert score_run(tmp_path, ScoreConfig(), ["only"]) == {}
    assert pl.read_csv(tmp_path / "report" / "predictions.csv")["prediction"].to_list() == ["angry"]


def test_the_stack_is_scored_by_id_and_its_predictions_are_the_ones_written(tmp_path, write_head):
    write_head("good", GOOD)
    write_stack(tmp_path, {"good": "f"})
    metrics = score_run(tmp_path, ScoreConfig(), ["good"])
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
    metrics = score_run(tmp_path, ScoreConfig(), ["good"], labels)
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


def test_tables_are_readable_at_80_columns_without_a_terminal(tmp_path, write_head):
    logits = [[float(i == j) for j in range(8)] for i in range(8)]
    dev = {"dev": (logits[:7], list(range(7)))}
    write_head("whisper-roberta-wce-sml", dev, classes=MSP_CLASSES)
    text = printed(score_run(tmp_path, ScoreConfig(), ["whisper-roberta-wce-sml"]))
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.split() for line in text.splitlines()]
    name = "whisper-roberta-wce-sml"
    assert [name, "1.000", "1.000", "[1.000,", "1.000]", "1.000", "1.000"] in lines
    assert [name, *["100"] * 7, "-"] in lines  # no row is neutral
    assert "dev: 7 labelled utterances" in text
    assert f"dev: confusion of {name} (rows true, columns predicted)" in text
    assert ["contempt", *"00000010"] in lines
    assert "\x1b" not in text


def test_class_names_are_cut_only_while_they_stay_distinct(tmp_path, write_head):
    dev = {"dev": ([[1, 0]], [0])}
    write_head("a", dev, classes=("surprise", "contempt"))
    text = printed(score_run(tmp_path, ScoreConfig(), ["a"]))
    assert ["system", "surpr", "conte"] in [line.split() for line in text.splitlines()]
    write_head("a", dev, classes=("positive-high", "positive-low"))
    text = printed(score_run(tmp_path, ScoreConfig(), ["a"]))
    assert ["system", "positive-high", "positive-low"] in [
        line.split() for line in text.splitlines()
    ]


def test_the_confusion_shown_is_the_stacks_when_there_is_one(tmp_path, write_head):
    write_head("good", GOOD)
    write_stack(tmp_path, {"good": "f"})
    text = printed(score_run(tmp_path, ScoreConfig(), ["good"]))
    assert "dev: confusion of stack (rows true, columns predicted)" in text
