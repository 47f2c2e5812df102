"""A run tested on three corpora, and a matrix of trainings by tested corpus."""

import numpy as np

from ser.cache.logits import HeadLogits, SplitLogits
from ser.score.cross import Cell, CellScore, Cross

CLASSES = ("angry", "sad", "calm")
# label, prediction; -1 is a class that the training has not seen
ROWS = {"a1": (0, 0), "a2": (1, 1), "b1": (1, 1), "b2": (1, 0), "b3": (2, 2), "b4": (-1, 2)}
CORPORA = {utterance: utterance[0] for utterance in ROWS}


def write_run(folder):
    rows = SplitLogits(
        utterance=list(ROWS),
        logits=np.eye(3, dtype=np.float32)[[chosen for _, chosen in ROWS.values()]],
        label=np.array([label for label, _ in ROWS.values()]),
        speaker=list(ROWS),
        fold=np.full(len(ROWS), -1),
        rows="held-out",
    )
    head = HeadLogits("one", CLASSES, "f", {}, {"test": rows})
    head.write(folder / "heads" / "one" / "logits.h5")


def cell(train, test, value, interval=None):
    scores = {"stack": CellScore(macro_f1=value, uar=value / 2, interval=interval)}
    return Cell(train=train, test=test, classes=["sad"], utterances=9, speakers=6, scores=scores)


def matrix():
    cells = [cell("a", "a", 0.9, [0.8, 0.95]), cell("b", "a", 0.5), cell("b", "b", 0.75)]
    return Cross(by="corpus", corpora=["a", "b"], cells=[*cells, cell(None, "b", 0.625)])
