"""The training options of a head by the size of its corpus, for the keys its entry does not give.

    training clips      epochs   lr       lr_min   augment
    up to 2,000         30       1e-3     1e-5     {mixup: 1.0, mixup_alpha: 0.4}
    8,000               30       1.5e-4   3.9e-6   {mixup: 0.59, mixup_alpha: 0.4}
    20,000              30       4.4e-5   2.1e-6   {mixup: 0.32, mixup_alpha: 0.4}
    60,000 and more     30       1e-5     1e-6     none

The last row is the published one (UNICAMP, 60,000 clips), and what `HeadConfig` has as defaults.
On 500 clips in batches of 64 it is 240 steps at 1e-5, in which a head hardly moves: EMOVO's
macro-F1 is 0.26 then, and 0.53 by the first row (`mean_mlp`, each of six speakers left out). The
measurements, of up to 2,000 clips, are in docs/heads.md. Between the two, rates and mix-up follow
the logarithm of the number of clips; nothing there was measured.
"""

import math
from collections.abc import Mapping

from ser.heads.config import Augment, HeadConfig
from ser.heads.registry import HEADS

SMALL, LARGE = 2_000, 60_000  # training clips: at most, at least
SCALED = ("epochs", "lr", "lr_min", "augment")  # the options that depend on them


def scaled(config: HeadConfig, clips: int) -> HeadConfig:
    """Return a head's config with options that suit the size of its corpus.

    Args:
        config: the head as its entry describes it; a key that the entry has stays as it is.
        clips: the number of training clips.

    A head that starts from given weights (`init`), or that needs no training, keeps the published
    options. Mix-up is for heads that learn classes, and for built-in ones: one of your own may not
    support it.

        >>> from ser.heads.config import parse_head
        >>> config = scaled(parse_head({"features": ["voice"], "epochs": 12}), clips=500)
        >>> config.epochs, config.lr
        (12, 0.001)
        >>> scaled(parse_head({"features": ["voice"]}), clips=60_000).lr
        1e-05
    """
    if config.init is not None or config.architecture.ready or config.architecture.solved:
        return config
    given, options = config.model_fields_set, _options(config, clips)
    return config.model_copy(update={k: v for k, v in options.items() if k not in given})


def _options(config: HeadConfig, clips: int) -> Mapping[str, object]:
    large = math.log(max(clips, SMALL) / SMALL) / math.log(LARGE / SMALL)  # 0 small, 1 large
    if large >= 1:
        return {}
    options: dict[str, object] = {
        "epochs": 30,
        "lr": _between(1e-3, 1e-5, large),
        "lr_min": _between(1e-5, 1e-6, large),
    }
    if "logits" in config.gives and config.head in HEADS.built_in:
        options["augment"] = Augment(mixup=round(1 - large, 2), mixup_alpha=0.4)
    return options


def _between(small: float, large: float, share: float) -> float:
    """Interpolate geometrically, to two digits."""
    return float(f"{small ** (1 - share) * large**share:.2g}")
