from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ser.cache.logits import HeadLogits, SplitLogits

CLASSES = ("angry", "sad", "happy")
SIZES = {"train": 40, "dev": 12, "": 5}


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write heads that know the label a bit, and in-sample logits, if apart, that know it well."""

    def write(
        run: Path = tmp_path,
        *,
        heads=("a", "b"),
        classes=CLASSES,
        seed=0,
        sizes=SIZES,
        kind="in-sample",
        attributes=(),
        speakers=4,
    ) -> Path:
        for number, name in enumerate(heads):
            splits = {}
            for split, n in sizes.items():
                label = np.random.default_rng(n).integers(0, len(classes), n)
                truth = np.random.default_rng([n, 1]).uniform(1, 7, (n, len(attributes)))
                rng = np.random.default_rng([seed, number, n])
                noise, known = rng.normal(size=(n, len(classes))), np.eye(len(classes))[label]
                crossed = split == "train" and kind == "out-of-fold"
                splits[split] = SplitLogits(
                    utterance=[f"{split or 'un'}{i}" for i in range(n)],
                    logits=noise + 2 * known,
                    label=label if split else np.full(n, -1),
                    speaker=[f"s{i % speakers}" for i in range(n)],
                    fold=np.full(n, -1),
                    rows=kind if split == "train" else "held-out",
                    in_sample=noise + 6 * known if crossed else None,
                    predicted=truth + rng.normal(size=truth.shape) if attributes else None,
                    truth=truth if attributes else None,
                )
            head = HeadLogits(name, classes, f"made-{name}-{seed}", {}, splits, tuple(attributes))
            head.write(run / "heads" / name / "logits.h5")
        return run

    return write


@pytest.fixture
def rewrite() -> Callable[..., None]:
    """Change the logits of a head in every split."""

    def rewrite(run: Path, head: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        path = run / "heads" / head / "logits.h5"
        found = HeadLogits.read(path)
        splits = {s: replace(rows, logits=change(rows.logits)) for s, rows in found.splits.items()}
        replace(found, splits=splits).write(path)

    return rewrite
