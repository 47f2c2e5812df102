from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache.logits import HeadLogits, SplitLogits

CLASSES = ("angry", "sad", "happy")


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write heads that know the label a bit: 40 train, 12 dev and 5 unlabelled rows."""

    def write(run: Path = tmp_path, heads=("a", "b"), classes=CLASSES, seed=0) -> Path:
        for number, name in enumerate(heads):
            splits = {}
            for split, n in (("train", 40), ("dev", 12), ("", 5)):
                label = np.random.default_rng(n).integers(0, len(classes), n)
                rng = np.random.default_rng([seed, number, n])
                splits[split] = SplitLogits(
                    utterance=[f"{split or 'un'}{i}" for i in range(n)],
                    logits=rng.normal(size=(n, len(classes))) + 2 * np.eye(len(classes))[label],
                    label=label if split else np.full(n, -1),
                    speaker=[f"s{i % 4}" for i in range(n)],
                    fold=np.full(n, -1),
                    rows="in-sample" if split == "train" else "held-out",
                )
            head = HeadLogits(name, classes, f"made-{name}-{seed}", {}, splits)
            head.write(run / "heads" / name / "logits.h5")
        return run

    return write
