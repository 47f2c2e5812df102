from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache.logits import HeadLogits, SplitLogits


@pytest.fixture
def write_head(tmp_path: Path) -> Callable[..., HeadLogits]:
    """Write `<tmp_path>/heads/<name>/logits.h5`: {split: ([[logit, …], …], [label, …])}."""

    def write(name: str, splits: dict, classes=("angry", "sad"), fingerprint="f") -> HeadLogits:
        rows = {
            split: SplitLogits(
                utterance=[f"{split or 'un'}{i}" for i in range(len(label))],
                logits=np.array(logits, np.float32).reshape(-1, len(classes)),
                label=np.array(label),
                speaker=[""] * len(label),
                fold=np.full(len(label), -1),
                rows="held-out",
            )
            for split, (logits, label) in splits.items()
        }
        head = HeadLogits(name, classes, fingerprint, {}, rows)
        head.write(tmp_path / "heads" / name / "logits.h5")
        return head

    return write
