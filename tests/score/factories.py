"""Scores as small as they may be, and their tables."""

import io
from dataclasses import replace

import numpy as np
from rich.console import Console

from ser.cache.logits import HeadLogits, SplitLogits
from ser.score.run import render
from ser.score.scores import SystemScores

HALF = {"mean": 0.5, "min": 0.5, "max": 0.5}


def entry(macro_f1=0.5, ccc=None, **more):
    """Return a system's entry of metrics.json: its macro-F1, its mean CCC, or both."""
    if macro_f1 is not None:
        scores = {"macro_f1": macro_f1, "uar": 0.5, "accuracy": 0.5, "n": 2, "interval": {}}
        scores |= {"per_class": {"sad": 0.5}, "confusion": [[2]], "bootstrap": HALF}
        more = scores | more
    return more | ({} if ccc is None else {"attributes": {"mean": {"ccc": ccc, "n": 2}}})


def system(macro_f1=0.5, ccc=None, **more):
    """Return the scores of a system; see `entry`."""
    return SystemScores.model_validate(entry(macro_f1, ccc, **more))


def write_logits(
    run, name, splits, *, classes=("angry", "sad"), fingerprint="f", attributes=(), more=None
):
    """Write `<run>/heads/<name>/logits.h5`: {split: ([[logit, …], …], [label, …])}.

    `more` has further fields of a split, {split: {field: …}}.
    """
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
    head.write(run / "heads" / name / "logits.h5")
    return head


def printed(metrics, width=80) -> str:
    """Return the tables of scores as a terminal of that width shows them."""
    console = Console(file=io.StringIO(), width=width)
    render(read(metrics), console)
    return console.file.getvalue()


def read(metrics):
    """Return scores as they are read from metrics.json."""
    return {
        split: {name: SystemScores.model_validate(entry) for name, entry in systems.items()}
        for split, systems in metrics.items()
    }


def lines(text: str) -> list[str]:
    """Split a text into lines whose cells are one space apart."""
    return [" ".join(line.split()) for line in text.splitlines()]
