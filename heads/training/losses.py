"""Losses, each a function of a head's outputs and targets; a head's loss is their weighted sum.

p = softmax(z) of the logits z, q the target row of a clip b, one-hot or mixed, w_c = N / (C n_c)
for n_c of N training utterances in class c of C, to the power `class_weight_power`. A mean over
weights that are all 0 is 0 and so is its slope: a batch without a class teaches none.

ce               sum_bc w_c q_bc (-log p_bc) / sum_bc w_c q_bc, for one-hot rows PyTorch's mean
                 with class weights
wce              ce with power 1 (Ueda et al. 2025, eq. 3)
focal            ce with (1 - p_bc)^gamma in the sum above the line, gamma 0 is ce
                 (Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 5)
label_smoothing  ce, power 0, of (1 - smoothing) q_bc + smoothing / C
                 (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7)
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
                 w_c q_bc: weights say how much a clip counts, its best answer stays its own votes
                 (Kullback, Leibler 1951; the SAIL entry of 2025, there without weights)
soft_ce          ce of the shares: weights move the best answer towards rare classes (the NTUA entry
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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from corpus.errors import UserError
from heads.config import HeadConfig
from heads.options import READS, LossUse
from heads.training.targets import Labelled, Targets

Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Setting:
    """What losses know of the training set.

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
    outputs: Outputs,
    targets: Targets,
    setting: Setting,
    *,
    gamma: float,
    class_weight_power: float,
) -> Tensor:
    """Return the focal loss of logits `(batch, classes)`."""
    log_p = outputs["logits"].log_softmax(dim=1)
    # the slope of x^gamma at 0 is infinite for gamma < 1, and p rounds to 1 soon enough
    missed = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return _mean(
        -(missed**gamma) * log_p, targets.classes * setting.class_weights**class_weight_power
    )


def label_smoothing(
    outputs: Outputs, targets: Targets, setting: Setting, *, smoothing: float
) -> Tensor:
    """Return the cross-entropy of logits `(batch, classes)` and smoothed targets."""
    even = targets.classes.mean(dim=1, keepdim=True)
    return _cross_entropy(outputs["logits"], torch.lerp(targets.classes, even, smoothing))


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

    A class that is not in the batch has F1 0 whatever the logits: it would teach nothing.
    """
    truth = targets.classes
    p = outputs["logits"].softmax(dim=1) * truth.sum(dim=1, keepdim=True)
    present = truth.sum(dim=0) > 0
    both = torch.where(present, (p + truth).sum(dim=0), 1.0)
    return _mean(1 - 2 * (p * truth).sum(dim=0) / both, present.to(p.dtype))


def sml(outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the soft margin loss of neutral_logit `(batch, 1)`: neutral up, the rest down."""
    assert setting.neutral is not None
    s, truth = outputs["neutral_logit"].squeeze(1), targets.classes
    neutral = truth[:, setting.neutral]
    down = functional.softplus(-s), neutral
    up = functional.softplus(s), truth.sum(dim=1) - neutral
    return _mean(*(torch.stack(each) for each in zip(down, up, strict=True)))


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
    predicted, truth, known = _attributes(outputs, targets)
    rows = known.sum(dim=0)

    def mean(values: Tensor) -> Tensor:
        return torch.where(known, values, 0.0).sum(dim=0) / rows.clamp_min(1)

    x, y = predicted - mean(predicted), truth - mean(truth)
    spread = mean(x**2) + mean(y**2) + (mean(predicted) - mean(truth)) ** 2
    # told from the truths themselves: their rounded moments would say that anything varies
    highest = truth.where(known, -torch.inf).amax(dim=0)
    varies = highest > truth.where(known, torch.inf).amin(dim=0)
    agreement = torch.where(varies, 2 * mean(x * y) / torch.where(varies, spread, 1.0), 0.0)
    return _mean(1 - agreement, (rows > 0).to(agreement.dtype))


def mse(outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the mean squared error of attributes `(batch, attributes)`."""
    predicted, truth, known = _attributes(outputs, targets)
    return _mean((predicted - truth) ** 2, known.to(predicted.dtype))


def gaussian_mse(
    outputs: Outputs, targets: Targets, setting: Setting, *, mean: float, sigma: float
) -> Tensor:
    """Return the mean squared error of attributes, each times a Gaussian of the prediction."""
    predicted, truth, known = _attributes(outputs, targets)
    gaussian = torch.exp(-((predicted - mean) ** 2) / (2 * sigma**2))
    return _mean(gaussian * (predicted - truth) ** 2, known.to(predicted.dtype))


def gender(outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the cross-entropy of gender `(batch, genders)`."""
    assert targets.gender is not None
    return _cross_entropy(outputs["gender"], targets.gender)


LOSSES: dict[str, LossFunction] = {
    "ce": ce,
    "wce": wce,
    "focal": focal,
    "label_smoothing": label_smoothing,
    "vs": vs,
    "soft_f1": soft_f1,
    "sml": sml,
    "kld": kld,
    "soft_ce": soft_ce,
    "ccc": ccc,
    "mse": mse,
    "gaussian_mse": gaussian_mse,
    "gender": gender,
}


def outputs_of(config: HeadConfig, classes: int, genders: int) -> dict[str, int]:
    """Return the outputs that a head must have for its losses, and their widths."""
    widths = {
        "logits": classes,
        "other": 1,
        "neutral_logit": 1,
        "attributes": len(config.attributes),
        "gender": genders,
    }
    uses = [use for stage in config.stages for use in stage.loss]
    needed = {name for use in uses for name in _outputs_read(config, use)}
    return {name: width for name, width in widths.items() if name in needed}


def setting_of(
    config: HeadConfig,
    rows: Labelled,
    soft: np.ndarray | None,
    classes: Sequence[str],
    device: str | torch.device,
) -> Setting:
    """Return what the losses of a head know of the training `rows` and their soft labels.

    Raises `UserError` when a loss of classes finds a class without an utterance, a sampler no
    class at all, or what sets neutral apart no neutral class.
    """
    counts = np.bincount(rows.classes[rows.classes >= 0], minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty and "classes" in config.reads:
        raise UserError(
            f"class '{empty[0]}' has no training utterance; take it out of corpus.classes, or add "
            "clips of it to the train split."
        )
    samplers = {stage.sampler.name for stage in config.stages}
    if len(empty) == len(classes) and samplers != {"natural"}:
        raise UserError(
            f"heads: the sampler {min(samplers - {'natural'})} balances classes, and no training "
            "utterance has one; use `sampler: natural`."
        )
    neutral = classes.index(config.neutral) if config.neutral in classes else None
    apart = "neutral_expressive" in samplers or "neutral_logit" in config.gives
    if apart and neutral is None:
        raise UserError(
            f"heads: sml and neutral_expressive need the class '{config.neutral}', which is not "
            "among corpus.classes; name the neutral class with `neutral:`."
        )
    votes = None if soft is None else inverse_shares(soft.sum(axis=0)).to(device)
    return Setting(inverse_shares(counts).to(device), votes, neutral)


def inverse_shares(counts: np.ndarray) -> Tensor:
    """Return N / (C n_c) of counts `(C,)` that sum to N, float32; 0 where there is none."""
    weights = np.zeros(len(counts))
    np.divide(counts.sum(), len(counts) * counts, out=weights, where=counts > 0)
    return torch.from_numpy(weights.astype(np.float32))


def total_loss(config: HeadConfig, outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the weighted sum of a head's losses, a scalar.

    Raises `UserError` when the head does not give what a loss reads.
    """
    parts = []
    for use in config.loss:
        missing = [name for name in _outputs_read(config, use) if name not in outputs]
        if missing:
            raise UserError(
                f"heads: the head '{config.head}' has no output '{missing[0]}', which the loss "
                f"'{use.name}' reads; return it from the head's forward, or use another loss."
            )
        options = use.model_dump(exclude={"name", "weight"})
        parts.append(use.weight * LOSSES[use.name](outputs, targets, setting, **options))
    return torch.stack(parts).sum()


def _outputs_read(config: HeadConfig, use: LossUse) -> list[str]:
    output, target = READS[use.name]
    return [output, "other"] if target == "votes" and config.votes.other == "keep" else [output]


def _mean(terms: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of terms by weights; 0, with slope 0, where all weights are 0."""
    total = weights.sum()
    return (weights * terms).sum() / torch.where(total > 0, total, 1.0)


def _cross_entropy(logits: Tensor, weights: Tensor) -> Tensor:
    return _mean(-logits.log_softmax(dim=1), weights)


def _vote_logits(outputs: Outputs, votes: Tensor) -> Tensor:
    """Return the logits, with that of `other` where there are votes for it."""
    logits = outputs["logits"]
    kept = votes.shape[1] > logits.shape[1]
    return torch.cat([logits, outputs["other"]], dim=1) if kept else logits


def _attributes(outputs: Outputs, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Return predictions, truths without their NaN, and which truths are known."""
    assert targets.attributes is not None
    known = ~targets.attributes.isnan()
    return outputs["attributes"], torch.where(known, targets.attributes, 0.0), known
