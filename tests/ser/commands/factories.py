"""The logits of a run, without a training."""

import numpy as np
import polars as pl

from ser.cache.logits import HeadLogits, SplitLogits
from tests.ser.factories import CLASSES, make_corpus


def write_run(folder):
    """Write a corpus, and the logits of its pipeline's two heads."""
    frame = make_corpus(folder)
    frame.with_columns(gender=pl.lit("female")).write_csv(folder / "m.csv")
    for number, name in enumerate(("one", "two")):
        rng, splits = np.random.default_rng(number), {}
        for split in ("train", "dev", "test"):
            rows = frame.filter(pl.col("split") == split)
            label = np.array([CLASSES.index(emotion) for emotion in rows["emotion"]])
            splits[split] = SplitLogits(
                utterance=rows["utterance"].to_list(),
                logits=rng.normal(size=(rows.height, 3)) + 3 * np.eye(3)[label],
                label=label,
                speaker=rows["speaker"].to_list(),
                fold=np.full(rows.height, -1),
                rows="in-sample" if split == "train" else "held-out",
            )
        head = HeadLogits(name, CLASSES, f"f-{name}", {"prosody": "p"}, splits)
        head.write(folder / "run" / "heads" / name / "logits.h5")
