"""The runs of two rotations."""

import numpy as np

from ser.cache.logits import HeadLogits, SplitLogits

# label, logits: the first rotation takes one of two for the other class, the second none
FIRST = {"a1": (0, (2.0, 1.0)), "a2": (1, (2.0, 0.0))}
SECOND = {"b1": (0, (3.0, 0.0)), "b2": (1, (0.0, 1.0)), "b3": (-1, (0.0, 1.0))}


def head(rows, fingerprint="f", classes=("angry", "sad")):
    """Return a head with these test rows; the speaker is the first letter."""
    test = SplitLogits(
        utterance=list(rows),
        logits=np.array([logits for _, logits in rows.values()], np.float32),
        label=np.array([label for label, _ in rows.values()]),
        speaker=[utterance[0] for utterance in rows],
        fold=np.full(len(rows), -1),
        rows="held-out",
        groups=[["Female"]] * len(rows),
    )
    return HeadLogits("one", classes, fingerprint, {"w": "x"}, {"test": test}, groups=("gender",))


def write_runs(folder):
    runs = []
    for name, rows in (("r1", FIRST), ("r2", SECOND)):
        head(rows, name).write(folder / name / "heads" / "one" / "logits.h5")
        runs.append(folder / name)
    return runs
