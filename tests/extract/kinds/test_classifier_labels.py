"""Labels of published models, and what they mean for a corpus."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.kinds.classifier_labels import FLOOR, meaning_of, read_labels

SUPERB = ["neu", "hap", "ang", "sad"]
RAVDESS = ["angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised"]
CLASSES = ["angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral"]


def test_without_classes_they_are_the_models_by_their_common_names() -> None:
    assert meaning_of(SUPERB, {}).names == ("neutral", "happy", "angry", "sad")
    assert meaning_of(["Anger", "JOY", "bored"], {}).names == ("angry", "happy", "bored")


def test_labels_are_matched_to_classes_and_the_rest_is_reported() -> None:
    meaning = meaning_of(RAVDESS, {}, CLASSES)
    assert meaning.names == tuple(CLASSES)
    assert meaning.outputs == ((0,), (6,), (4,), (7,), (3,), (2,), (), (5,))
    assert meaning.unused == ("calm",)
    assert meaning.absent == ("contempt",)


def test_a_label_can_be_mapped_and_left_out() -> None:
    meaning = meaning_of(RAVDESS, {"calm": "neutral", "disgust": None}, CLASSES)
    assert meaning.outputs == ((0,), (6,), (4,), (7,), (3,), (), (), (1, 5))
    assert meaning.unused == ("disgust",)


def test_scores_are_a_softmax_over_the_labels_that_are_classes() -> None:
    meaning = meaning_of(["a", "b", "c", "d"], {"a": "sad", "b": "angry", "c": "sad"}, CLASSES[:3])
    probabilities = np.array([[0.1, 0.3, 0.2, 0.4]])
    scores = meaning.scores(np.log(probabilities) + 5)  # logits have a constant to spare
    np.testing.assert_allclose(scores, [[np.log(0.5), np.log(0.5), FLOOR]], rtol=1e-6)
    assert scores.dtype == np.float32


def test_attributes_are_reordered_and_scaled() -> None:
    meaning = meaning_of(["arousal", "dominance", "valence"], {}, CLASSES)
    assert meaning.attributes
    assert meaning.scores(np.array([[0.0, 0.5, 1.0]])).tolist() == [[1.0, 7.0, 4.0]]
    assert meaning.scores(np.array([[-0.1, 1.1, 0.25]])).tolist() == [[1.0, 2.5, 7.0]]


def test_attributes_without_names_can_be_mapped() -> None:
    renamed = {"LABEL_0": "valence", "LABEL_1": "arousal", "LABEL_2": "dominance"}
    meaning = meaning_of(["LABEL_0", "LABEL_1", "LABEL_2"], renamed, CLASSES, (1.0, 5.0))
    assert meaning.scores(np.array([[1.0, 5.0, 3.0]])).tolist() == [[7.0, 1.0, 4.0]]


@pytest.mark.parametrize(
    ("labels", "renamed", "problem"),
    [
        (SUPERB, {"happy": "sad"}, "the model has no label 'happy'; did you mean 'hap'?"),
        (
            SUPERB,
            {"hap": "hapy"},
            "labels.hap: 'hapy' is not a class of the corpus; did you mean 'happy'?",
        ),
        (
            ["LABEL_0", "LABEL_1"],
            {},
            "of the model's labels (LABEL_0, LABEL_1) fewer than two are classes (angry, sad, "
            "happy, surprise, fear, disgust, contempt, neutral); map them, as `labels: {LABEL_0: "
            "angry}`.",
        ),
        (
            ["arousal", "valence"],
            {},
            "a model of attributes needs one output each for arousal, valence, dominance, and "
            "this one has arousal, valence; map them, as `labels: {arousal: arousal}`.",
        ),
    ],
)
def test_labels_that_cannot_be_used(
    labels: list[str], renamed: dict[str, str | None], problem: str
) -> None:
    with pytest.raises(UserError) as raised:
        meaning_of(labels, renamed, CLASSES)
    assert str(raised.value).removeprefix("labels: ") == problem


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "it has no `id2label`"),
        ({"id2label": ["a", "b"]}, "it has no `id2label`"),
        ({"id2label": {"1": "a", "2": "b"}}, "`id2label` must give each output a name of its own"),
        ({"id2label": {"0": "a", "1": "a"}}, "`id2label` must give each output a name of its own"),
        ({"id2label": {"0": "a", "1": 3}}, "`id2label` must give each output a name of its own"),
    ],
)
def test_a_config_without_labels(tmp_path: Path, config: dict[str, Any], problem: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as raised:
        read_labels(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}/config.json: {problem}")


def test_a_config_that_is_not_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(UserError) as raised:
        read_labels(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/config.json: it is missing or not valid JSON; get the model again."
    )
