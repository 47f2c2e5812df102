from dataclasses import replace

import numpy as np
import pytest

from corpus.errors import UserError
from score.heads import labels_of, read_heads, softmax

DEV = {"dev": ([[1, 0], [0, 1]], [0, 1])}


def test_heads_come_back_in_the_order_asked_for(tmp_path, write_head):
    write_head("a", DEV)
    write_head("b", DEV)
    assert [head.head for head in read_heads(tmp_path / "heads", ["b", "a"])] == ["b", "a"]


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
        f"{tmp_path}/heads/a/logits.h5: the logits of 1 utterances of dev are not finite ('dev1' "
        "is the first); train the head again with a lower lr."
    )


def test_an_id_that_stands_twice_is_refused(tmp_path, write_head):
    head = write_head("a", DEV)
    rows = replace(head.splits["dev"], utterance=["x", "x"])
    replace(head, splits={"dev": rows}).write(tmp_path / "heads" / "a" / "logits.h5")
    with pytest.raises(UserError) as error:
        read_heads(tmp_path / "heads", ["a"])
    assert str(error.value) == (
        f"{tmp_path}/heads/a/logits.h5: utterance 'x' stands twice in dev; train the head again."
    )


def test_labels_are_told_by_id_and_must_agree(write_head):
    a = write_head("a", DEV)
    assert labels_of([a]) == {"dev0": 0, "dev1": 1}
    b = write_head("b", {"dev": ([[1, 0], [0, 1]], [0, -1])})
    with pytest.raises(UserError) as error:
        labels_of([a, b])
    assert str(error.value) == (
        "logits.h5 of head 'b': the label of 'dev1' is not the one that another head was trained "
        "with; train all heads on one manifest."
    )


def test_softmax_survives_large_logits():
    assert softmax(np.array([[1e4, 1e4], [0, np.log(3)]])) == pytest.approx(
        np.array([[0.5, 0.5], [0.25, 0.75]])
    )
