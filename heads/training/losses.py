"""Losses, each a function of a head's outputs and targets; a head is trained on their weighted sum.

p = softmax(z) of the logits z, q the target row of a clip b, one-hot or mixed, w_c = N / (C n_c)
for n_c of N training utterances in class c of C, to the power `class_weight_power`. A mean over
weights that are all 0 is 0 and so is its slope: a batch without a class trains none.

ce               sum_bc w_c q_bc (-log p_bc) / sum_bc w_c q_bc, for one-hot rows PyTorch's mean
                 with class weights
wce              ce with power 1 (Ueda et al. 2025, eq. 3)
focal            ce with (1 - p_bc)^gamma in the sum above the line, gamma 0 is ce
                 (Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 5)
label_smoothing  ce of (1 - smoothing) q_bc + smoothing / C, clip b weighed by sum_c w_c q_bc
                 (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7; there
                 without weights)
vs               vector scaling: ce of Delta_c z_c + iota_c, Delta_c = (n_c / max n)^gamma,
                 iota_c = tau log(n_c / N); gamma 0 is logit adjustment, both 0 ce
                 (Kini et al. 2021, "Label-Imbalanced and Group-Sensitive Classification")
soft_f1          1 - mean over the classes in the batch of 2 sum_b p_bc q_bc / sum_b (p_bc + q_bc)
                 (Pastor-Pellicer et al. 2013, "F-Measure as the Error Function to Train Neural
                 Networks", one class against the rest)
sml              soft margin loss, the mean of q_n log(1 + exp(-s)) + (1 - q_n) log(1 + exp(s)),
                 q_n the neutral share, s the neutral logit (Ueda et al. 2025, eq. 4)

Of votes, q the shares of a clip's votes; their weights have the sum of shares in place of n_c, and
0 for what nobody voted for. With `other: keep` it is one more place in z, q and w.

kld              sum_b v_b KL(q_b || p_b) / sum_b v_b, KL = sum_c q_c log(q_c / p_c), v_b = sum_c
                 w_c q_bc: weights are of clips, whose optimum stays their own votes
                 (Kullback, Leibler 1951; the SAIL entry of 2025, there without weights)
soft_ce          ce of the shares: weights move the optimum towards rare classes (the NTUA entry
                 of 2025, MEDUSA; its mean is over clips, with weights not quite the same)

Of attributes, y the truth and x the prediction; unknown (NaN) truths are left out one by one.

ccc              1 - CCC over the batch, the mean over attributes; CCC = 2 s_xy / (s_x^2 + s_y^2 +
                 (m_x - m_y)^2) with population moments (Lin 1989, "A Concordance Correlation
                 Coefficient to Evaluate Reproducibility"). Truths that are all the same, as that of
                 a batch of one, have CCC 0 and slope 0; an attribute without any is no part of the
                 mean
mse              mean of (x - y)^2
gaussian_mse     mean of (x - y)^2 exp(-(x - mean)^2 / (2 sigma^2)): errors near the mean cost more,
                 which pushes predictions off it (the SRPOL entry of 2025)

gender           ce, power 0, of the genders (auxiliary, the SAIL entry for attributes of 2025)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ser.corpus.registry import require_call, require_options
from ser.heads.options import LossUse
from ser.heads.registry import LOSSES, LossInfo, Output, Target
from ser.heads.training.targets import Targets

Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Setting:
    """Statistics of the training set that losses use.

    `class_weights` `(classes,)`, 0 for a class without an utterance; `vote_weights` `(places,)`,
    where losses of votes need them; `neutral` is the index of the neutral class, where there is
    one.
    """

    class_weights: Tensor
    vote_weights: Tensor | None = None
    neutral: int | None = None

    @property
    def shares(self) -> Tensor:
        """Return n_c / N `(classes,)`."""
        return 1 / (len(self.class_weights) * self.class_weights)


LossFunction = Callable[..., Tensor]  # of outputs, targets, setting, and the options by name


def loss(
    name: str,
    options: type[LossUse] = LossUse,
    *,
    output: Output = "logits",
    target: Target = "classes",
) -> Callable[[LossFunction], LossFunction]:
    """Register a loss: a function of outputs, targets and setting, with its options by name.

    Args:
        name: the entry of `loss:` that chooses it in pipeline.yaml.
        options: its options, a subclass of `LossUse`.
        output: the output of the head that it reads.
        target: the target that it learns.

    The function returns a scalar that compares one output of the head with one target.

        >>> @loss("squared_error")
        ... def squared_error(outputs, targets, setting):
        ...     return (outputs["logits"].softmax(1) - targets.classes).square().mean()
        >>> one = Targets(classes=torch.tensor([[1.0, 0.0]]))
        >>> squared_error({"logits": torch.zeros(1, 2)}, one, None)
        tensor(0.2500)
    """

    def register(function: LossFunction) -> LossFunction:
        require_options("loss", name, options, LossUse)
        names = set(options.model_fields) - set(LossUse.model_fields)
        require_call("loss", name, function, "(outputs, targets, setting, **options)", 3, *names)
        LOSSES.add(name, function, LossInfo(options, output, target))
        return function

    return register


def ce(
    outputs: Outputs, targets: Targets, setting: Setting, *, class_weight_power: float
) -> Tensor:
    """Return the cross-entropy of logits `(batch, classes)`."""
    weights = setting.class_weights**class_weight_power
    return _cross_entropy(outputs["logits"], targets.classes * weights)


def wce(outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the weighted cross-entropy of logits `(batch, classes)`."""
    return ce(outputs, targets, setting, class_weight_power=1.0)


def focal(
    outputs: Outputs, targets: Targets, setting: Setting, *, gamma: float, class_weight_power: float
) -> Tensor:
    """Return the focal loss of logits `(batch, classes)`."""
    log_p = outputs["logits"].log_softmax(dim=1)
    # the slope of x^gamma at 0 is infinite for gamma < 1, and p rounds to 1 soon enough
    missed = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return _mean(
        -(missed**gamma) * log_p, targets.classes * setting.class_weights**class_weight_power
    )


def label_smoothing(
    outputs: Outputs,
    targets: Targets,
    setting: Setting,
    *,
    smoothing: float,
    class_weight_power: float,
) -> Tensor:
    """Return the cross-entropy of logits `(batch, classes)` and smoothed targets."""
    even = targets.classes.mean(dim=1, keepdim=True)
    smooth = torch.lerp(targets.classes, even, smoothing)
    if class_weight_power:
        # the weight of a clip is that of its class, also for the share that other classes get
        weights = targets.classes * setting.class_weights**class_weight_power
        smooth = smooth * weights.sum(dim=1, keepdim=True)
    return _cross_entropy(outputs["logits"], smooth)


def vs(
    outputs: Outputs,
    targets: Targets,
    setting: Setting,
    *,
    gamma: float,
    tau: float,
    class_weight_power: float,
) -> Tensor:
    """Return the vector scaling loss of logits `(batch, classes)`."""
    shares = setting.shares
    scaled = outputs["logits"] * (shares / shares.max()) ** gamma + tau * shares.log()
    return _cross_entropy(scaled, targets.classes * setting.class_weights**class_weight_power)


def soft_f1(outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return 1 - macro soft-F1 of logits `(batch, classes)`.

    A class that is not in the batch has F1 0 whatever the logits, so it is left out.
    """
    truth = targets.classes
    p = outputs["logits"].softmax(dim=1) * truth.sum(dim=1, keepdim=True)
    present = truth.sum(dim=0) > 0
    total = torch.where(present, (p + truth).sum(dim=0), 1.0)
    return _mean(1 - 2 * (p * truth).sum(dim=0) / total, present.to(p.dtype))


def sml(outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the soft margin loss of neutral_logit `(batch, 1)`: neutral up, the rest down."""
    assert setting.neutral is not None
    s, truth = outputs["neutral_logit"].squeeze(1), targets.classes
    neutral = truth[:, setting.neutral]
    down = functional.softplus(-s), neutral
    up = functional.softplus(s), truth.sum(dim=1) - neutral
    return _mean(*(torch.stack(pair) for pair in zip(down, up, strict=True)))


def kld(
    outputs: Outputs, targets: Targets, setting: Setting, *, class_weight_power: float
) -> Tensor:
    """Return the divergence of logits `(batch, classes)` from the shares of the votes."""
    assert targets.votes is not None and setting.vote_weights is not None
    log_p = _vote_logits(outputs, targets.votes).log_softmax(dim=1)
    total = targets.votes.sum(dim=1, keepdim=True)
    # a mixture with a clip without votes has less than 1 in all: it counts for less, q is the same
    q = targets.votes / torch.where(total > 0, total, 1.0)
    divergence = functional.kl_div(log_p, q, reduction="none").sum(dim=1)
    return _mean(divergence, targets.votes @ setting.vote_weights.to(q) ** class_weight_power)


def soft_ce(
    outputs: Outputs, targets: Targets, setting: Setting, *, class_weight_power: float
) -> Tensor:
    """Return the cross-entropy of logits `(batch, classes)` and the shares of the votes."""
    assert targets.votes is not None and setting.vote_weights is not None
    weights = setting.vote_weights**class_weight_power
    return _cross_entropy(_vote_logits(outputs, targets.votes), targets.votes * weights)


def ccc(outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return 1 - CCC of attributes `(batch, attributes)`."""
    predicted, truth, rated = _attributes(outputs, targets)
    rows = rated.sum(dim=0)

    def mean(values: Tensor) -> Tensor:
        return torch.where(rated, values, 0.0).sum(dim=0) / rows.clamp_min(1)

    x, y = predicted - mean(predicted), truth - mean(truth)
    spread = mean(x**2) + mean(y**2) + (mean(predicted) - mean(truth)) ** 2
    # from the truths themselves: with rounded moments, constant truths would seem to vary
    highest = truth.where(rated, -torch.inf).amax(dim=0)
    varies = highest > truth.where(rated, torch.inf).amin(dim=0)
    agreement = torch.where(varies, 2 * mean(x * y) / torch.where(varies, spread, 1.0), 0.0)
    return _mean(1 - agreement, (rows > 0).to(agreement.dtype))


def mse(outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the mean squared error of attributes `(batch, attributes)`."""
    predicted, truth, rated = _attributes(outputs, targets)
    return _mean((predicted - truth) ** 2, rated.to(predicted.dtype))


def gaussian_mse(
    outputs: Outputs, targets: Targets, setting: Setting, *, mean: float, sigma: float
) -> Tensor:
    """Return the mean squared error of attributes, each times a Gaussian of the prediction."""
    predicted, truth, rated = _attributes(outputs, targets)
    gaussian = torch.exp(-((predicted - mean) ** 2) / (2 * sigma**2))
    return _mean(gaussian * (predicted - truth) ** 2, rated.to(predicted.dtype))


def gender(outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the cross-entropy of gender `(batch, genders)`."""
    assert targets.gender is not None
    return _cross_entropy(outputs["gender"], targets.gender)


def _mean(terms: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of terms by weights; 0, with slope 0, where all weights are 0."""
    total = weights.sum()
    return (weights * terms).sum() / torch.where(total > 0, total, 1.0)


def _cross_entropy(logits: Tensor, weights: Tensor) -> Tensor:
    return _mean(-logits.log_softmax(dim=1), weights)


def _vote_logits(outputs: Outputs, votes: Tensor) -> Tensor:
    """Return the logits, with that of `other` where there are votes for it."""
    logits = outputs["logits"]
    with_other = votes.shape[1] > logits.shape[1]
    return torch.cat([logits, outputs["other"]], dim=1) if with_other else logits


def _attributes(outputs: Outputs, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Return predictions, true values with 0 for NaN, and a mask of the valid ones."""
    assert targets.attributes is not None
    valid = ~targets.attributes.isnan()
    return outputs["attributes"], torch.where(valid, targets.attributes, 0.0), valid
