"""Scores go through as they are until something is learned; and the conformance suite."""

from typing import ClassVar

import pytest
import torch

from ser.corpus.errors import UserError
from ser.heads.architectures.class_scores import ClassScores
from ser.heads.config import parse_head
from ser.heads.options import ClassScoresOptions
from ser.heads.testing import CLASSES, HeadConformance, padded


class TestClassScores(HeadConformance):
    name = "class_scores"
    dims: ClassVar = (CLASSES, CLASSES, CLASSES)


class TestWithoutBias(TestClassScores):
    options: ClassVar = {"bias": False}


def test_before_any_training_they_are_the_mean_over_time_and_features():
    module = ClassScores({"a": 2, "b": 2}, {"logits": 2}, ClassScoresOptions())
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 5.0]])
    logits = module(padded([{"a": a, "b": b}], 3, 1e3))["logits"]
    assert logits.tolist() == [[(2.0 + 0.0) / 2, (3.0 + 5.0) / 2]]


def test_a_scale_a_feature_and_a_bias_a_class_are_all_that_is_learned():
    sizes = {n: p.numel() for n, p in TestClassScores().make(3).named_parameters()}
    assert sizes == {"scale": 3, "bias": CLASSES}
    assert [n for n, _ in TestWithoutBias().make(1).named_parameters()] == ["scale"]


def test_other_widths_and_other_outputs_are_refused():
    with pytest.raises(UserError) as caught:
        ClassScores({"gpt": 8}, {"logits": 4}, ClassScoresOptions())
    assert str(caught.value) == (
        "head 'class_scores': features.gpt has 8 channels for 4 classes; give one per class, in "
        "the order of the classes."
    )
    with pytest.raises(UserError, match=r"has 4 channels for 3 attributes; give one per attribute"):
        ClassScores({"dim": 4}, {"attributes": 3}, ClassScoresOptions())
    with pytest.raises(UserError) as caught:
        ClassScores({"gpt": 4}, {"logits": 4, "attributes": 3}, ClassScoresOptions())
    assert str(caught.value) == (
        "head 'class_scores': it gives classes or attributes alone, not logits, attributes; use a "
        "loss of one of them."
    )


def test_attributes_go_through_as_they_are_and_are_scaled_about_the_middle():
    module = ClassScores({"a": 2, "b": 2}, {"attributes": 2}, ClassScoresOptions())
    a, b = torch.tensor([[1.0, 6.0], [3.0, 6.0]]), torch.tensor([[4.0, 7.0]])
    batch = padded([{"a": a, "b": b}], 3, 1e3)
    assert module(batch)["attributes"].tolist() == [[(2.0 + 4.0) / 2, (6.0 + 7.0) / 2]]
    with torch.no_grad():
        module.scale.fill_(0.5)
    assert module(batch)["attributes"].tolist() == [[4 - 0.5, 4 + 1.25]]
    with torch.no_grad():
        module.scale.fill_(9.0)
    assert module(batch)["attributes"].tolist() == [[1.0, 7.0]]


def test_it_may_go_untrained_and_others_may_not():
    options = {"features": ["gpt"], "epochs": 0}
    assert parse_head(options | {"head": "class_scores"}).epochs == 0
    with pytest.raises(ValueError, match="nothing is trained in 0 epochs"):
        parse_head(options | {"head": "mean_mlp"})
