from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ser.cache.logits import HeadLogits, SplitLogits


@pytest.fixture
def write_head(tmp_path: Path) -> Callable[..., HeadLogits]:
    """Write `<tmp_path>/heads/<name>/logits.h5`: {split: ([[logit, …], …], [label, …])}.

    `more` has further fields of a split, {split: {field: …}}.
    """

    def write(
        name: str,
        splits: dict,
        *,
        classes=("angry", "sad"),
        fingerprint="f",
        attributes=(),
        more=None,
    ) -> HeadLogits:
        rows = {
            split: SplitLogits(
                utterance=[f"{split or 'un'}{i}" for i in range(len(label))],
                logits=np.array(logits, np.float32).reshape(len(label), -1),
                label=np.array(label),
                speaker=[""] * len(label),
                fold=np.full(len(label), -1),
                rows="in-sample" if split == "train" else "held-out",
            )
            for split, (logits, label) in splits.items()
        }
        for split, fields in (more or {}).items():
            rows[split] = replace(rows[split], **fields)
        head = HeadLogits(name, classes, fingerprint, {}, rows, attributes)
        head.write(tmp_path / "heads" / name / "logits.h5")
        return head

    return write
