"""Losses against values worked out by hand."""

import numpy as np
import pytest
import torch

from corpus.errors import UserError
from heads.config import parse_head
from heads.losses import (
    LOSSES,
    Setting,
    ce,
    class_weights,
    extras_of,
    focal,
    label_smoothing,
    sml,
    soft_f1,
    total_loss,
    vs,
    wce,
)

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
LABELS = torch.tensor([0, 0, 1])
P_TRUE = np.array([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1)), 0.5])  # softmax at the labels
SETTING = Setting(torch.tensor([0.625, 2.5]), None)  # of 4 utterances of class 0, 1 of class 1
OUTPUTS = {"logits": LOGITS}


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
    minus_log_p = [np.log(1 + np.exp(-2)), np.log(1 + np.exp(1)), np.log(2)]
    by_hand = np.average(minus_log_p, weights=[0.625, 0.625, 2.5])
    assert wce(OUTPUTS, LABELS, SETTING).item() == pytest.approx(by_hand)


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


def test_shares_are_those_of_the_training_set():
    setting = Setting(class_weights(np.array([0, 0, 0, 1, 2, 2]), ["a", "b", "c"]), None)
    assert setting.shares.tolist() == pytest.approx([3 / 6, 1 / 6, 2 / 6])


@pytest.mark.parametrize(("power", "weights"), [(0, [1, 1, 1]), (0.5, [0.625, 0.625, 2.5])])
def test_ce_is_minus_log_p_weighted_by_a_power_of_the_class_weights(power, weights):
    by_hand = np.average(-np.log(P_TRUE), weights=np.array(weights) ** power)
    loss = ce(OUTPUTS, LABELS, SETTING, class_weight_power=power)
    assert loss.item() == pytest.approx(by_hand)


@pytest.mark.parametrize(("power", "weights"), [(0, [1, 1, 1]), (1, [0.625, 0.625, 2.5])])
def test_focal_turns_down_what_is_already_right(power, weights):
    by_hand = np.average(-((1 - P_TRUE) ** 2) * np.log(P_TRUE), weights=weights)
    loss = focal(OUTPUTS, LABELS, SETTING, gamma=2.0, class_weight_power=power)
    assert loss.item() == pytest.approx(by_hand)


def test_focal_with_gamma_0_is_cross_entropy():
    unfocused = focal(OUTPUTS, LABELS, SETTING, gamma=0.0, class_weight_power=1.0)
    assert unfocused.item() == pytest.approx(wce(OUTPUTS, LABELS, SETTING).item())


def test_label_smoothing_is_cross_entropy_with_smoothed_labels():
    truth = np.array([[0.85, 0.15], [0.85, 0.15], [0.15, 0.85]])  # 0.3 spread over 2 classes
    p = np.stack([P_TRUE, 1 - P_TRUE], axis=1)
    p[2] = p[2, ::-1]
    by_hand = -(truth * np.log(p)).sum(axis=1).mean()
    loss = label_smoothing(OUTPUTS, LABELS, SETTING, smoothing=0.3)
    assert loss.item() == pytest.approx(by_hand)


def test_vs_scales_and_shifts_the_logits_by_the_class_shares():
    delta, iota = np.array([1, 0.25**0.3]), 0.8 * np.log([4 / 5, 1 / 5])
    z = LOGITS.numpy() * delta + iota
    p = np.exp(z[[0, 1, 2], [0, 0, 1]]) / np.exp(z).sum(axis=1)
    loss = vs(OUTPUTS, LABELS, SETTING, gamma=0.3, tau=0.8, class_weight_power=0.0)
    assert loss.item() == pytest.approx(-np.log(p).mean())
    weighted = vs(OUTPUTS, LABELS, SETTING, gamma=0.3, tau=0.8, class_weight_power=1.0)
    assert weighted.item() == pytest.approx(np.average(-np.log(p), weights=[0.625, 0.625, 2.5]))
    plain = vs(OUTPUTS, LABELS, SETTING, gamma=0.0, tau=0.0, class_weight_power=1.0)
    assert plain.item() == pytest.approx(wce(OUTPUTS, LABELS, SETTING).item())


def test_soft_f1_counts_in_probabilities():
    p0 = np.array([P_TRUE[0], P_TRUE[1], 0.5])
    f1_of_0 = 2 * (p0[0] + p0[1]) / (p0.sum() + 2)
    f1_of_1 = 2 * (1 - p0[2]) / ((1 - p0).sum() + 1)
    loss = soft_f1(OUTPUTS, LABELS, SETTING)
    assert loss.item() == pytest.approx(1 - (f1_of_0 + f1_of_1) / 2)


def test_soft_f1_of_sure_and_right_logits_is_0_whatever_class_is_not_in_the_batch():
    logits = 200 * torch.eye(5)[[0, 3, 3]]  # class 1, 2 and 4 have p exactly 0 here
    assert soft_f1({"logits": logits}, torch.tensor([0, 3, 3]), SETTING).item() == 0
    assert soft_f1({"logits": logits}, torch.tensor([3, 0, 0]), SETTING).item() == 1


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"sml"}))  # PyTorch's ends at s = -88
@pytest.mark.parametrize("sure", [1.0, -1.0])
def test_no_loss_of_the_logits_breaks_when_they_are_sure(name, sure):
    use = {"name": name} | ({"gamma": 0.5} if name == "focal" else {})
    config = parse_head({"features": ["a"], "loss": [use]})
    logits = (sure * torch.tensor([[300.0, 0.0], [0.0, 300.0]])).requires_grad_()
    loss = total_loss(config, {"logits": logits}, torch.tensor([0, 1]), SETTING)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_options_reach_the_loss():
    use = {"name": "focal", "weight": 0.5, "gamma": 3, "class_weight_power": 1}
    config = parse_head({"features": ["a"], "loss": ["soft_f1", use]})
    parts = soft_f1(OUTPUTS, LABELS, SETTING) + 0.5 * focal(
        OUTPUTS, LABELS, SETTING, gamma=3.0, class_weight_power=1.0
    )
    assert total_loss(config, OUTPUTS, LABELS, SETTING).item() == pytest.approx(parts.item())
