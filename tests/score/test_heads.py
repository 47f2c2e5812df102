from dataclasses import replace

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.score.heads import classifies, read_heads, require_same_utterances, softmax

DEV = {"dev": ([[1, 0], [0, 1]], [0, 1])}


def test_heads_are_returned_in_the_requested_order(tmp_path, write_head):
    write_head("a", DEV)
    write_head("b", DEV)
    assert list(read_heads(tmp_path / "heads", ["b", "a"])) == ["b", "a"]


def test_no_heads_at_all(tmp_path):
    with pytest.raises(UserError) as error:
        read_heads(tmp_path, [])
    assert str(error.value) == (
        f"{tmp_path}: there are no heads to read; name some under heads in pipeline.yaml."
    )


def test_another_class_order_is_refused(tmp_path, write_head):
    write_head("a", DEV)
    write_head("b", DEV, classes=("sad", "angry"))
    with pytest.raises(UserError) as error:
        read_heads(tmp_path / "heads", ["a", "b"])
    assert str(error.value) == (
        f"{tmp_path}/heads/b/logits.h5: the classes are sad, angry, but those of head 'a' are "
        "angry, sad; train both with the same corpus.classes."
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(tmp_path, write_head, bad):
    write_head("a", {"dev": ([[1, 0], [0, bad]], [0, 1])})
    with pytest.raises(UserError) as error:
        read_heads(tmp_path / "heads", ["a"])
    assert str(error.value) == (
        f"{tmp_path}/heads/a/logits.h5: the logits of 1 utterance of dev are not finite ('dev1' "
        "is the first); train the head again with a lower lr."
    )


@pytest.mark.parametrize(
    ("field", "called"),
    [("in_sample", "in-sample logits"), ("predicted", "predicted attributes")],
)
def test_no_other_output_of_a_head_may_be_nan(tmp_path, write_head, field, called):
    values = np.array([[1.0, np.nan], [np.nan, 1.0]])
    write_head("a", DEV, attributes=("arousal", "valence"), more={"dev": {field: values}})
    with pytest.raises(UserError) as error:
        read_heads(tmp_path / "heads", ["a"])
    assert str(error.value) == (
        f"{tmp_path}/heads/a/logits.h5: the {called} of 2 utterances of dev are not finite "
        "('dev0' is the first); train the head again with a lower lr."
    )


def test_a_missing_head_is_named(tmp_path, write_head):
    write_head("a", DEV)
    with pytest.raises(UserError) as error:
        read_heads(tmp_path / "heads", ["a", "b"])
    assert str(error.value) == (
        f"{tmp_path}/heads/b/logits.h5: there are no logits; train it with `ser heads train-all`."
    )


def test_a_head_of_attributes_alone_has_no_classes(tmp_path, write_head):
    values = {"predicted": np.ones((2, 1)), "truth": np.ones((2, 1))}
    write_head("a", {"dev": ([], [0, 1])}, attributes=("arousal",), more={"dev": values})
    assert not classifies(read_heads(tmp_path / "heads", ["a"])["a"])


def test_heads_need_the_same_utterances_in_any_order(tmp_path, write_head):
    a, b = write_head("a", DEV), write_head("b", DEV)
    turned = replace(b.splits["dev"], utterance=["dev1", "dev0"])
    require_same_utterances(tmp_path, {"a": a, "b": replace(b, splits={"dev": turned})})
    more = write_head("b", {"dev": ([[1, 0], [0, 1], [0, 1]], [0, 1, 1])})
    for heads in ({"a": a, "b": more}, {"b": more, "a": a}):
        with pytest.raises(UserError) as error:
            require_same_utterances(tmp_path, heads)
        assert str(error.value) == (
            f"{tmp_path}/a/logits.h5: head 'a' lacks utterance 'dev2' of dev, which head 'b' has "
            "(1 such utterances); train both on one manifest."
        )


def test_a_repeated_id_is_refused(tmp_path, write_head):
    head = write_head("a", DEV)
    rows = replace(head.splits["dev"], utterance=["x", "x"])
    replace(head, splits={"dev": rows}).write(tmp_path / "heads" / "a" / "logits.h5")
    with pytest.raises(UserError) as error:
        read_heads(tmp_path / "heads", ["a"])
    assert str(error.value) == (
        f"{tmp_path}/heads/a/logits.h5: utterance 'x' appears twice in dev; train the head again."
    )


def test_softmax_survives_large_logits():
    assert softmax(np.array([[1e4, 1e4], [0, np.log(3)]])) == pytest.approx(
        np.array([[0.5, 0.5], [0.25, 0.75]])
    )
