"""The training options of a head by the size of its corpus, where its entry does not give them.

    training clips   epochs   lr     lr_min   augment                            loss
    up to 2,000      30       1e-3   1e-5     {mixup: 1.0, mixup_alpha: 0.4}     wce, smoothed by 0.1
    up to 20,000     20       1e-4   1e-6     none                               wce
    more             30       1e-5   1e-6     none                               wce

The last row is published (UNICAMP, 60,000 clips) and is what `HeadConfig` has as defaults. With 500
clips and a batch of 64 it is 240 steps at 1e-5, after which a head has hardly moved: macro-F1 0.26
on EMOVO (588 clips, each of six speakers left out), where the first row has X. The measurements are
in docs/heads.md. The middle row is that of `ser init`; it was not measured against others.
"""

from collections.abc import Mapping
from typing import Any

from ser.heads.config import Augment, HeadConfig
from ser.heads.options import LabelSmoothingLoss
from ser.heads.registry import HEADS

SMALL, MEDIUM = 2_000, 20_000  # training clips, at most


def scaled(config: HeadConfig, clips: int) -> HeadConfig:
    """Return a head's config with the options that suit a corpus, where its entry gives none.

    Args:
        config: the head as its entry describes it; a key that the entry has is left as it is.
        clips: how many training clips have a class.

    A head that begins with given weights (`init`), or needs no training, keeps the published
    options. Mix-up is left out where nothing learns classes, and for a head from outside, which
    may not take it.

        >>> from ser.heads.config import parse_head
        >>> config = scaled(parse_head({"features": ["voice"], "epochs": 12}), clips=500)
        >>> config.epochs, config.lr
        (12, 0.001)
        >>> scaled(parse_head({"features": ["voice"]}), clips=60_000).lr
        1e-05
    """
    if config.init is not None or config.architecture.ready:
        return config
    options = _options(config, clips)
    missing = {key: value for key, value in options.items() if key not in config.model_fields_set}
    return config.model_copy(update=missing)


def _options(config: HeadConfig, clips: int) -> Mapping[str, Any]:
    if clips > MEDIUM:
        return {}
    if clips > SMALL:
        return {"epochs": 20, "lr": 1e-4}
    options: dict[str, Any] = {"epochs": 30, "lr": 1e-3, "lr_min": 1e-5}
    options["loss"] = (LabelSmoothingLoss(name="label_smoothing", class_weight_power=1.0),)
    if "logits" in config.gives and config.head in HEADS.built_in:
        options["augment"] = Augment(mixup=1.0, mixup_alpha=0.4)
    return options
