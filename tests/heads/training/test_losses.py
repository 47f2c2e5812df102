"""Losses against values worked out by hand, and against what others compute."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from scipy.stats import entropy
from torch.nn import functional

from ser.corpus.errors import UserError
from ser.heads.config import parse_head
from ser.heads.registry import LOSSES
from ser.heads.training.losses import Setting
from ser.heads.training.objective import outputs_of, setting_of, total_loss
from ser.heads.training.targets import Labelled, Targets, one_hot
from ser.score import attributes

NAN = float("nan")
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
LABELS = torch.tensor([0, 0, 1])
P = LOGITS.softmax(dim=1).numpy()
P_TRUE = np.array([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1)), 0.5])  # softmax at the labels
WEIGHTS = [0.625, 2.5]  # of 4 utterances of class 0, 1 of class 1
SETTING = Setting(torch.tensor(WEIGHTS))
OUTPUTS = {"logits": LOGITS}
MIXED = np.array([[0.75, 0.25], [0.0, 0.4], [0.0, 0.0]])  # of two clips, of one and none, of none
SEEDS = st.integers(0, 2**32 - 1)


def hard(labels, classes=2):
    return Targets(torch.from_numpy(one_hot(np.asarray(labels), classes)))


def mixed():
    return Targets(torch.tensor(MIXED, dtype=torch.float32))


def rated(*rows):
    return Targets(torch.zeros(len(rows), 2), attributes=torch.tensor(rows))


def loss(name, outputs=OUTPUTS, targets=None, setting=SETTING, **options):
    """Return what the loss gives with the options it has in a pipeline."""
    config = parse_head({"features": ["a"], "loss": [{"name": name} | options, "ce", "mse"]})
    options = config.loss[0].model_dump(exclude={"name", "weight"})
    targets = hard(LABELS) if targets is None else targets
    return LOSSES.get(name)(outputs, targets, setting, **options)


def make_case(seed, rows=6, dtype=torch.float64, *, unknown=True):
    """Return outputs, targets and setting that every loss can read, with rows of nothing."""
    rng = np.random.default_rng(seed)
    widths = {"logits": 3, "other": 1, "neutral_logit": 1, "attributes": 2, "gender": 2}
    outputs = {n: torch.tensor(rng.normal(size=(rows, w)), dtype=dtype) for n, w in widths.items()}
    classes, votes, gender = (rng.dirichlet(np.ones(w), rows) for w in (3, 4, 2))
    ratings = rng.uniform(1, 7, (rows, 2))
    if unknown:
        classes[1], votes[2], gender[3] = 0, 0, 0
        ratings[1, 0] = ratings[4] = NAN
    each = (torch.tensor(values, dtype=dtype) for values in (classes, votes, ratings, gender))
    weights = [torch.tensor(rng.uniform(0.3, 3, n), dtype=dtype) for n in (3, 4)]
    return outputs, Targets(*each), Setting(*weights, neutral=1)


# the value of each, by hand


@pytest.mark.parametrize(("power", "weights"), [(0, [1, 1]), (0.5, np.sqrt(WEIGHTS)), (1, WEIGHTS)])
def test_ce_is_the_weighted_mean_of_minus_log_p(power, weights):
    by_hand = np.average(-np.log(P_TRUE), weights=np.array(weights)[LABELS])
    assert loss("ce", class_weight_power=power).item() == pytest.approx(by_hand)
    spread = np.array(weights) * MIXED
    by_hand = (spread * -np.log(P)).sum() / spread.sum()
    value = loss("ce", targets=mixed(), class_weight_power=power)
    assert value.item() == pytest.approx(by_hand)


def test_wce_has_the_class_weights_as_they_are():
    by_hand = (0.625 * -np.log(P_TRUE[0]) - 0.625 * np.log(P_TRUE[1]) + 2.5 * np.log(2)) / 3.75
    assert loss("wce").item() == pytest.approx(by_hand)


@pytest.mark.parametrize(("power", "weights"), [(0, [1, 1]), (1, WEIGHTS)])
def test_focal_turns_down_what_is_already_right(power, weights):
    by_hand = np.average(-((1 - P_TRUE) ** 2) * np.log(P_TRUE), weights=np.array(weights)[LABELS])
    assert loss("focal", gamma=2, class_weight_power=power).item() == pytest.approx(by_hand)
    spread = np.array(weights) * MIXED
    by_hand = (spread * (1 - P) ** 2 * -np.log(P)).sum() / spread.sum()
    value = loss("focal", targets=mixed(), gamma=2, class_weight_power=power)
    assert value.item() == pytest.approx(by_hand)


def test_label_smoothing_is_cross_entropy_with_smoothed_labels():
    smoothed = np.array([[0.85, 0.15], [0.85, 0.15], [0.15, 0.85]])  # 0.3 spread over 2 classes
    by_hand = -(smoothed * np.log(P)).sum(axis=1).mean()
    assert loss("label_smoothing", smoothing=0.3).item() == pytest.approx(by_hand)
    smoothed = np.array([[0.675, 0.325], [0.06, 0.34], [0, 0]])
    by_hand = -(smoothed * np.log(P)).sum() / 1.4
    value = loss("label_smoothing", targets=mixed(), smoothing=0.3)
    assert value.item() == pytest.approx(by_hand)


def test_label_smoothing_weighs_a_clip_by_its_own_class():
    smoothed = np.array([[0.85, 0.15], [0.85, 0.15], [0.15, 0.85]])
    weights = SETTING.class_weights.numpy()[LABELS.numpy()]
    by_hand = (weights @ -(smoothed * np.log(P)).sum(axis=1)) / weights.sum()
    value = loss("label_smoothing", smoothing=0.3, class_weight_power=1)
    assert value.item() == pytest.approx(by_hand)


def test_vs_scales_and_shifts_the_logits_by_the_class_shares():
    delta, iota = np.array([1, 0.25**0.3]), 0.8 * np.log([4 / 5, 1 / 5])
    z = LOGITS.numpy() * delta + iota
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    true = -log_p[[0, 1, 2], LABELS]
    options = {"gamma": 0.3, "tau": 0.8}
    assert loss("vs", **options).item() == pytest.approx(true.mean())
    weighted = loss("vs", **options, class_weight_power=1)
    assert weighted.item() == pytest.approx(np.average(true, weights=np.array(WEIGHTS)[LABELS]))
    by_hand = (MIXED * -log_p).sum() / 1.4
    assert loss("vs", targets=mixed(), **options).item() == pytest.approx(by_hand)


def test_soft_f1_counts_in_probabilities():
    f1_of_0 = 2 * (P[0, 0] + P[1, 0]) / (P[:, 0].sum() + 2)
    f1_of_1 = 2 * P[2, 1] / (P[:, 1].sum() + 1)
    assert loss("soft_f1").item() == pytest.approx(1 - (f1_of_0 + f1_of_1) / 2)
    counted = P * [[1], [0.4], [0]]
    f1 = 2 * (counted * MIXED).sum(axis=0) / (counted + MIXED).sum(axis=0)
    assert loss("soft_f1", targets=mixed()).item() == pytest.approx(1 - f1.mean())


def test_soft_f1_of_sure_and_right_logits_is_0_whatever_class_is_not_in_the_batch():
    logits = 200 * torch.eye(5)[[0, 3, 3]]  # class 1, 2 and 4 have p exactly 0 here
    assert loss("soft_f1", {"logits": logits}, hard([0, 3, 3], 5)).item() == 0
    assert loss("soft_f1", {"logits": logits}, hard([3, 0, 0], 5)).item() == 1


def test_sml_is_log_1_plus_exp_of_minus_y_s_with_neutral_plus_one():
    s = torch.tensor([[2.0], [-1.0], [0.5]])
    setting = Setting(torch.ones(2), neutral=1)
    terms = [np.log(1 + np.exp(2)), np.log(1 + np.exp(-1)), np.log(1 + np.exp(-0.5))]
    value = loss("sml", {"neutral_logit": s}, setting=setting)
    assert value.item() == pytest.approx(np.mean(terms))
    up, down = np.log1p(np.exp(s.numpy()[:, 0])), np.log1p(np.exp(-s.numpy()[:, 0]))
    by_hand = (0.75 * up[0] + 0.25 * down[0] + 0.4 * down[1]) / 1.4
    value = loss("sml", {"neutral_logit": s}, mixed(), setting)
    assert value.item() == pytest.approx(by_hand)


def voted(*rows):
    return Targets(torch.zeros(len(rows), 2), torch.tensor(rows))


def test_kld_is_the_mean_divergence_of_clips_with_votes():
    setting = Setting(torch.ones(2), torch.tensor([0.5, 2.0]))
    targets = voted([0.5, 0.5], [1.0, 0.0], [0.0, 0.0])
    first = 0.5 * np.log(0.5 / P[0, 0]) + 0.5 * np.log(0.5 / P[0, 1])
    second = -np.log(P[1, 0])
    value = loss("kld", targets=targets, setting=setting)
    assert value.item() == pytest.approx((first + second) / 2)
    weighted = loss("kld", targets=targets, setting=setting, class_weight_power=1)
    assert weighted.item() == pytest.approx(np.average([first, second], weights=[1.25, 0.5]))


def test_kld_of_a_mixture_with_a_clip_without_votes_counts_for_less():
    setting = Setting(torch.ones(2), torch.ones(2))
    whole = [loss("kld", {"logits": LOGITS[[i]]}, voted([0.5, 0.5]), setting) for i in (0, 1)]
    value = loss("kld", {"logits": LOGITS[:2]}, voted([0.5, 0.5], [0.1, 0.1]), setting)
    assert value.item() == pytest.approx((whole[0] + 0.2 * whole[1]).item() / 1.2)


def test_soft_ce_is_the_weighted_cross_entropy_of_the_shares():
    setting = Setting(torch.ones(2), torch.tensor([0.25, 4.0]))
    shares = np.array([[0.8, 0.2], [0.0, 1.0], [0.0, 0.0]], dtype=np.float32)
    spread = shares * [0.5, 2.0]  # the default power is 0.5
    by_hand = -(spread * np.log(P)).sum() / spread.sum()
    value = loss("soft_ce", targets=voted(*shares.tolist()), setting=setting)
    assert value.item() == pytest.approx(by_hand)


@pytest.mark.parametrize("name", ["kld", "soft_ce"])
def test_votes_for_other_are_compared_with_its_logit(name):
    three = torch.cat([LOGITS, torch.tensor([[0.5], [-1.0], [2.0]])], dim=1)
    apart = {"logits": three[:, :2], "other": three[:, 2:]}
    targets = voted([0.2, 0.3, 0.5], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    setting = Setting(torch.ones(2), torch.tensor([0.5, 1.0, 3.0]))
    expected = loss(name, {"logits": three}, targets, setting)
    assert loss(name, apart, targets, setting).item() == expected.item()


def test_ccc_is_that_of_lin_over_the_known_rows_of_each_attribute():
    predicted = torch.tensor([[1.0, 9.0], [2.0, 4.0], [6.0, 6.0]])
    truth = rated([2.0, NAN], [4.0, 3.0], [3.0, 5.0])
    # means 3 and 3, variances 14/3 and 2/3, covariance 1/3; means 5 and 4, all second moments 1
    expected = [2 / 3 / (16 / 3), 2 / (1 + 1 + 1)]
    value = loss("ccc", {"attributes": predicted}, truth)
    assert value.item() == pytest.approx(1 - np.mean(expected))


def test_mse_and_gaussian_mse_are_means_over_what_is_known():
    predicted = torch.tensor([[4.0, 1.0], [5.0, 3.0]])
    truth = rated([2.0, NAN], [4.0, 6.0])
    assert loss("mse", {"attributes": predicted}, truth).item() == pytest.approx((4 + 1 + 9) / 3)
    by_hand = (4 * 1 + 1 * np.exp(-1 / 8) + 9 * np.exp(-1 / 8)) / 3
    value = loss("gaussian_mse", {"attributes": predicted}, truth, mean=4, sigma=2)
    assert value.item() == pytest.approx(by_hand)


def test_gender_is_cross_entropy_of_the_known():
    targets = Targets(torch.zeros(3, 2), gender=torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.5, 0.5]]))
    by_hand = -(np.log(P[0, 0]) + 0.5 * np.log(0.5) * 2) / 2
    assert loss("gender", {"gender": LOGITS}, targets).item() == pytest.approx(by_hand)


# others' implementations


@settings(deadline=None)
@given(seed=SEEDS)
def test_hard_labels_give_what_pytorch_gives(seed):
    outputs, _, setting = make_case(seed)
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, 6))
    targets, weights = Targets(hard(labels, 3).classes.double()), setting.class_weights
    cross_entropy, logits = functional.cross_entropy, outputs["logits"]

    def close(value, expected):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)

    expected = cross_entropy(logits, labels, weight=weights)
    close(loss("wce", outputs, targets, setting), expected)
    close(loss("focal", outputs, targets, setting, gamma=0, class_weight_power=1), expected)
    flat = loss("vs", outputs, targets, setting, gamma=0, tau=0, class_weight_power=1)
    close(flat, expected)
    smoothed = cross_entropy(logits, labels, label_smoothing=0.25)
    close(loss("label_smoothing", outputs, targets, setting, smoothing=0.25), smoothed)
    sign = torch.where(labels == 1, 1.0, -1.0).unsqueeze(1)
    margin = functional.soft_margin_loss(outputs["neutral_logit"], sign)
    close(loss("sml", outputs, targets, setting), margin)


@settings(deadline=None)
@given(seed=SEEDS)
def test_soft_labels_and_ratings_give_what_pytorch_scipy_and_our_scores_give(seed):
    outputs, targets, setting = make_case(seed, unknown=False)
    logits = torch.cat([outputs["logits"], outputs["other"]], dim=1)
    value = loss("soft_ce", outputs, targets, setting, class_weight_power=0)
    torch.testing.assert_close(value, functional.cross_entropy(logits, targets.votes))
    value = loss("kld", outputs, targets, setting)
    by_scipy = rel_entr(targets.votes.numpy(), logits.softmax(dim=1).numpy()).sum(axis=1).mean()
    assert value.item() == pytest.approx(by_scipy)
    value = loss("gender", outputs, targets, setting)
    torch.testing.assert_close(value, functional.cross_entropy(outputs["gender"], targets.gender))
    value = loss("mse", outputs, targets, setting)
    torch.testing.assert_close(
        value, functional.mse_loss(outputs["attributes"], targets.attributes)
    )
    outputs, targets, setting = make_case(seed)
    scored = attributes.ccc(targets.attributes.numpy(), outputs["attributes"].numpy())
    assert loss("ccc", outputs, targets, setting).item() == pytest.approx(1 - scored.mean())


def test_kld_is_soft_ce_without_what_no_head_can_change():
    outputs, targets, setting = make_case(0, unknown=False)
    surprise = entropy(targets.votes.numpy(), axis=1).mean()
    less = loss("soft_ce", outputs, targets, setting, class_weight_power=0).item() - surprise
    assert loss("kld", outputs, targets, setting).item() == pytest.approx(less)


# what holds for all of them


@pytest.mark.parametrize("name", LOSSES.built_in)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_slope_is_that_of_finite_differences(name, seed):
    outputs, targets, setting = make_case(seed)
    names = list(outputs)
    leaves = [outputs[n].requires_grad_() for n in names]

    def value(*given):
        return loss(name, dict(zip(names, given, strict=True)), targets, setting)

    assert torch.autograd.gradcheck(value, leaves)


@settings(deadline=None)
@given(seed=SEEDS, name=st.sampled_from(sorted(LOSSES.built_in)))
def test_the_order_of_the_batch_changes_nothing(seed, name):
    outputs, targets, setting = make_case(seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(6))
    shuffled = {n: values[order] for n, values in outputs.items()}
    each = (targets.classes, targets.votes, targets.attributes, targets.gender)
    value = loss(name, shuffled, Targets(*(values[order] for values in each)), setting)
    torch.testing.assert_close(value, loss(name, outputs, targets, setting))


@pytest.mark.parametrize("name", LOSSES.built_in)
def test_a_batch_with_nothing_to_learn_is_0_and_has_no_slope(name):
    outputs, _, setting = make_case(0)
    for leaf in outputs.values():
        leaf.requires_grad_()
    zeros = {"classes": 3, "votes": 4, "gender": 2}
    nothing = {n: torch.zeros(6, width, dtype=torch.float64) for n, width in zeros.items()}
    targets = Targets(**nothing, attributes=torch.full((6, 2), NAN, dtype=torch.float64))
    value = loss(name, outputs, targets, setting)
    value.backward()
    assert value.item() == 0
    slopes = [leaf.grad for leaf in outputs.values() if leaf.grad is not None]
    assert slopes
    assert all(slope.eq(0).all() for slope in slopes)


@pytest.mark.parametrize("name", LOSSES.built_in)
def test_a_row_of_nothing_changes_neither_value_nor_slope(name):
    outputs, targets, setting = make_case(3, unknown=False)
    for leaf in outputs.values():
        leaf.requires_grad_()
    empty = Targets(*(torch.zeros(1, width) for width in (3, 4)), torch.full((1, 2), NAN))
    empty = Targets(empty.classes, empty.votes, empty.attributes, torch.zeros(1, 2))
    each = ("classes", "votes", "attributes", "gender")
    kept = Targets(**{n: getattr(targets, n)[:5] for n in each})
    more = Targets(**{n: torch.cat([getattr(kept, n), getattr(empty, n)]) for n in each})
    short = loss(name, {n: values[:5] for n, values in outputs.items()}, kept, setting)
    long = loss(name, outputs, more, setting)
    torch.testing.assert_close(long, short)
    leaves = list(outputs.values())
    slopes = torch.autograd.grad(long, leaves, allow_unused=True, retain_graph=True)
    expected = torch.autograd.grad(short, leaves, allow_unused=True)
    torch.testing.assert_close(
        [s for s in slopes if s is not None], [s for s in expected if s is not None]
    )


@pytest.mark.parametrize("name", LOSSES.built_in)
@pytest.mark.parametrize("far", [300.0, -300.0, 1e4])
def test_no_loss_breaks_when_outputs_are_sure(name, far):
    outputs, targets, setting = make_case(0, dtype=torch.float32)
    outputs = {n: (far * values.sign()).requires_grad_() for n, values in outputs.items()}
    options = {"gamma": 0.5} if name == "focal" else {}
    value = loss(name, outputs, targets, setting, **options)
    value.backward()
    assert value.isfinite()
    assert all(v.grad.isfinite().all() for v in outputs.values() if v.grad is not None)


@settings(deadline=None)
@given(seed=SEEDS)
def test_kld_is_0_at_equality_and_more_elsewhere(seed):
    outputs, targets, setting = make_case(seed, unknown=False)
    for power in (0, 1):
        anywhere = loss("kld", outputs, targets, setting, class_weight_power=power)
        assert anywhere.item() > 0
        right = targets.votes.log().split([3, 1], dim=1)
        right = {"logits": right[0].requires_grad_(), "other": right[1]}
        value = loss("kld", right, targets, setting, class_weight_power=power)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert right["logits"].grad.abs().max() < 1e-12


@settings(deadline=None)
@given(
    truth=st.lists(st.integers(10, 70), min_size=2, max_size=8).filter(lambda t: len(set(t)) > 1),
    seed=SEEDS,
)
def test_ccc_loss_is_0_for_identity_and_2_at_most(truth, seed):
    ratings = torch.tensor(truth).unsqueeze(1) / 10
    targets = Targets(torch.zeros(len(truth), 2), attributes=ratings)
    assert loss("ccc", {"attributes": ratings}, targets).item() == pytest.approx(0, abs=1e-5)
    guess = torch.from_numpy(np.random.default_rng(seed).uniform(1, 7, (len(truth), 1))).float()
    assert -1e-5 < loss("ccc", {"attributes": guess}, targets).item() < 2 + 1e-5


@pytest.mark.parametrize(
    "truth", [[[4.1]], [[4.1]] * 3, [[4.1], [NAN], [4.1]]], ids=["one", "same", "same or unknown"]
)
def test_ccc_of_ratings_that_do_not_vary_is_1_without_a_slope(truth):
    for shift in (0.0, 1.3):
        predicted = (torch.arange(len(truth)).unsqueeze(1) * shift + 4.1).requires_grad_()
        value = loss("ccc", {"attributes": predicted}, rated(*truth))
        value.backward()
        assert value.item() == 1
        assert predicted.grad.eq(0).all()


def test_ccc_of_predictions_that_do_not_vary_has_a_slope_that_spreads_them():
    predicted = torch.full((3, 1), 4.0, requires_grad=True)
    value = loss("ccc", {"attributes": predicted}, rated([2.0], [4.0], [6.0]))
    value.backward()
    assert value.item() == 1
    assert predicted.grad[0] > 0 > predicted.grad[2]


def test_an_attribute_that_nobody_rated_is_no_part_of_the_mean():
    predicted = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    both = loss("ccc", {"attributes": predicted}, rated([2.0, NAN], [5.0, NAN]))
    one = loss("ccc", {"attributes": predicted[:, :1]}, rated([2.0], [5.0]))
    assert both.item() == one.item()


# what stands around them


def make_rows(labels):
    return Labelled([f"u{i}" for i in range(len(labels))], np.array(labels))


def make_setting(labels, classes=("a", "b", "neutral"), soft=None, **entry):
    config = parse_head({"features": ["a"]} | entry)
    return setting_of(config, make_rows(labels), soft, classes, "cpu")


def test_class_weights_are_n_over_c_times_n_c_of_those_with_a_class():
    setting = make_setting([0, 0, 0, -1, 1, 2, 2, -1])
    assert setting.class_weights.tolist() == pytest.approx([6 / 9, 6 / 3, 6 / 6])
    assert setting.class_weights.dtype == torch.float32
    assert setting.shares.tolist() == pytest.approx([3 / 6, 1 / 6, 2 / 6])
    assert setting.vote_weights is None
    assert setting.neutral == 2


def test_vote_weights_are_those_of_the_summed_shares():
    soft = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    setting = make_setting([0, 0, -1, -1], soft=soft, loss=["kld"])
    assert setting.vote_weights.tolist() == pytest.approx([3 / (4 * 1.5), 3 / (4 * 0.5), 0, 3 / 4])
    assert setting.class_weights.tolist() == pytest.approx([1 / 3, 0, 0])


def test_a_class_without_a_clip_is_named_where_it_is_to_be_learned():
    with pytest.raises(UserError) as error:
        make_setting([0, 2, -1], ["angry", "fear", "sad"])
    assert str(error.value) == (
        "class 'fear' has no training utterance; remove it from corpus.classes, or add clips of "
        "it to the train split."
    )
    assert make_setting([0, 2, -1], ["angry", "fear", "sad"], loss=["mse"]).neutral is None


@pytest.mark.parametrize("entry", [{"loss": ["ce", "sml"]}, {"sampler": "neutral_expressive"}])
@pytest.mark.parametrize("in_a_phase", [False, True])
def test_a_neutral_class_that_is_not_there_is_named(entry, in_a_phase):
    entry = {"phases": [{"epochs": 1} | entry]} if in_a_phase else entry
    with pytest.raises(UserError) as error:
        make_setting([0, 1], ["calm", "sad"], **entry)
    assert str(error.value) == (
        "heads: sml and neutral_expressive need the class 'neutral', which is not among "
        "corpus.classes; name the neutral class with `neutral:`."
    )
    assert make_setting([0, 1], ["calm", "sad"], neutral="calm", **entry).neutral == 0


def test_there_must_be_classes_to_balance():
    with pytest.raises(UserError) as error:
        make_setting([-1, -1], loss=["mse"], sampler="undersample")
    assert str(error.value) == (
        "heads: the sampler undersample balances classes, and no training utterance has one; use "
        "`sampler: natural`."
    )


@pytest.mark.parametrize(
    ("entry", "outputs"),
    [
        ({"loss": ["wce"]}, {"logits": 8}),
        ({"loss": ["wce", "sml"]}, {"logits": 8, "neutral_logit": 1}),
        ({"loss": ["kld"]}, {"logits": 8}),
        ({"loss": ["soft_ce"], "votes": {"other": "keep"}}, {"logits": 8, "other": 1}),
        ({"loss": ["wce"], "votes": {"other": "keep"}}, {"logits": 8}),
        ({"loss": ["ccc"], "attributes": ["valence"]}, {"attributes": 1}),
        ({"loss": ["mse", "gender"]}, {"attributes": 3, "gender": 2}),
        ({"phases": [{"epochs": 1, "loss": ["ccc"]}]}, {"attributes": 3}),
        (
            {"phases": [{"epochs": 1, "loss": ["ccc"]}, {"epochs": 1, "loss": ["ce"]}]},
            {"logits": 8, "attributes": 3},
        ),
    ],
)
def test_a_head_gives_what_its_losses_read(entry, outputs):
    config = parse_head({"features": ["a"]} | entry)
    assert outputs_of(config, 8, 2) == outputs


def test_losses_add_up_by_their_weights_with_their_options():
    use = {"name": "focal", "weight": 0.5, "gamma": 3, "class_weight_power": 1}
    config = parse_head({"features": ["a"], "loss": ["soft_f1", use]})
    parts = loss("soft_f1") + 0.5 * loss("focal", gamma=3, class_weight_power=1)
    total = total_loss(config, OUTPUTS, hard(LABELS), SETTING)
    assert total.shape == ()
    assert total.item() == pytest.approx(parts.item())
    assert math.isfinite(total.item())
