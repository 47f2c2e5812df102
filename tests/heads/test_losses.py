"""Losses against values worked out by hand."""

import numpy as np
import pytest
import torch

from corpus.errors import UserError
from heads.config import parse_head
from heads.losses import Setting, class_weights, extras_of, sml, total_loss, wce

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
LABELS = torch.tensor([0, 0, 1])


def test_class_weights_are_n_over_c_times_n_c():
    weights = class_weights(np.array([0, 0, 0, 1, 2, 2]), ["a", "b", "c"])
    assert weights.tolist() == pytest.approx([6 / 9, 6 / 3, 6 / 6])


def test_a_class_without_a_clip_is_named():
    with pytest.raises(UserError) as error:
        class_weights(np.array([0, 2]), ["angry", "fear", "sad"])
    assert str(error.value) == (
        "class 'fear' has no training utterance; take it out of corpus.classes, or add clips of "
        "it to the train split."
    )


def test_wce_is_the_weighted_mean_of_minus_log_p():
    setting = Setting(torch.tensor([0.75, 1.5]), None)
    minus_log_p = [np.log(1 + np.exp(-2)), np.log(1 + np.exp(1)), np.log(2)]
    by_hand = np.average(minus_log_p, weights=[0.75, 0.75, 1.5])
    assert wce({"logits": LOGITS}, LABELS, setting).item() == pytest.approx(by_hand)


def test_sml_is_log_1_plus_exp_of_minus_y_s_with_neutral_plus_one():
    outputs = {"neutral_logit": torch.tensor([[2.0], [-1.0], [0.5]])}
    by_hand = np.mean([np.log(1 + np.exp(2)), np.log(1 + np.exp(-1)), np.log(1 + np.exp(-0.5))])
    setting = Setting(torch.ones(2), neutral=1)
    assert sml(outputs, LABELS, setting).item() == pytest.approx(by_hand)


def test_losses_add_up_by_their_weights():
    loss = ["wce", {"name": "sml", "weight": 0.5}]
    config = parse_head({"features": ["a"], "loss": loss})
    outputs = {"logits": LOGITS, "neutral_logit": torch.zeros(3, 1)}
    setting = Setting(torch.ones(2), neutral=1)
    total = total_loss(config, outputs, LABELS, setting)
    assert total.item() == pytest.approx(wce(outputs, LABELS, setting).item() + 0.5 * np.log(2))
    assert extras_of(config) == {"neutral_logit"}
