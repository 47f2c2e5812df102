import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ser.corpus.manifest import Manifest
from ser.score.config import ScoreConfig
from ser.score.report.contents import Contents, gather
from ser.score.run import score_run
from tests.score.factories import write_logits

NAUGHTY = "</script><script>alert(1)</script>"
CLASSES = ("angry", "sad", "<b>calm</b>")
SIZES = {"train": 24, "dev": 24, "test": 30}
CONFIG = {
    "head": "mean_mlp",
    "loss": [{"name": "wce"}, {"name": "sml"}],
    "sampler": {"name": "neutral_expressive"},
    "phases": [],
    "best_by": None,
    "seed": 7,
}


def write_head_json(folder: Path, name: str, folds: int = 3) -> None:
    """Write head.json and history.csv of a cross-fitted head."""
    rows = [(k, epoch, 1 / (1 + epoch), 0.1 * epoch) for k in range(folds) for epoch in range(4)]
    columns = ["fold", "epoch", "train_loss", "dev_macro_f1"]
    pl.DataFrame(rows, columns, orient="row").write_csv(folder / "history.csv")
    best = {f"fold-{k}": 3 for k in range(folds)}
    record = {"head": name, "config": CONFIG, "best_epochs": best, "epochs": 12, "seconds": 90.0}
    machine = {"gpu": "Quadro RTX 8000", "cores": 4, "device": "cuda"}
    record |= {"machine": machine, "versions": {"numpy": "1.0"}}
    (folder / "head.json").write_text(json.dumps(record))


def write_full_run(run: Path) -> tuple[Path, list[str], Manifest]:
    """Write a run that has every section of a report: two heads, a stack, clips, words."""
    ids = [f"{split}{i}" for split, n in SIZES.items() for i in range(n)]
    rng = np.random.default_rng(0)
    for number, name in enumerate(("good", "poor")):
        splits, more = {}, {}
        for split, n in SIZES.items():
            label = np.arange(n) % 3
            noise = rng.normal(size=(n, 3)) * (1 + number)
            splits[split] = (noise + 2 * np.eye(3)[label], label)
            truth = np.linspace(1, 7, n)[:, None]
            more[split] = {
                "speaker": [f"s{i // 6}" for i in range(n)],
                "truth": truth,
                "predicted": truth + rng.normal(size=(n, 1)) * (1 + 2 * number),
            }
        more["train"] |= {"rows": "out-of-fold", "in_sample": 3 * splits["train"][0]}
        write_logits(run, name, splits, classes=CLASSES, attributes=("valence",), more=more)
        write_head_json(run / "heads" / name, name)
    write_stack(run, ids)
    (run / "audio").mkdir()
    (run / "audio" / "a clip.wav").write_bytes(b"")
    return run, ["good", "poor"], manifest_of(ids)


def gather_full(folder: Path) -> Contents:
    """Gather a run that has every section."""
    run, heads, manifest = write_full_run(folder)
    config = ScoreConfig(resamples=50, groups=("gender", "speaker"))
    metrics = score_run(run, config, heads, manifest)
    contents = gather(run, metrics, heads, manifest, audio=run / "audio")
    return replace(contents, top=top())


@pytest.fixture
def full_run(tmp_path: Path) -> Callable[..., tuple[Path, list[str], Manifest]]:
    """Write a run that has every section of a report."""
    return partial(write_full_run, tmp_path)


@pytest.fixture
def full(tmp_path: Path) -> Contents:
    """Return the contents of a run that has every section; the test may change its files."""
    return gather_full(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """Return the contents of a run that has every section, for tests that only read them."""
    return gather_full(tmp_path_factory.mktemp("whole"))


def write_stack(run: Path, ids: list[str]) -> None:
    (run / "stack").mkdir()
    about = {
        "fingerprint": "st4ck",
        "config": {"model": "random_forest", "seed": 42},
        "protocol": "oof",
        "heads": {"good": "f", "poor": "f"},
        "classes": CLASSES,
        "rows": 24,
        "rows_per_class": dict.fromkeys(CLASSES, 8),
    }
    (run / "stack" / "stack.json").write_text(json.dumps(about))
    probability = np.random.default_rng(1).dirichlet((1, 1, 1), len(ids))
    right = np.array([int(u.strip("adeinrstv")) % 3 for u in ids])
    probability = 0.7 * probability + 0.3 * np.eye(3)[right]
    chosen = [CLASSES[i] for i in probability.argmax(axis=1)]
    columns = {f"p.{name}": probability[:, i] for i, name in enumerate(CLASSES)}
    split = [u.rstrip("0123456789") for u in ids]
    frame = pl.DataFrame({"utterance": ids, "split": split, "prediction": chosen, **columns})
    frame.write_parquet(run / "stack" / "predictions.parquet")


def manifest_of(ids: list[str]) -> Manifest:
    numbers = [int(u.strip("adeinrstv")) for u in ids]
    frame = pl.DataFrame(
        {
            "utterance": ids,
            "path": "a clip.wav",
            "start": [float(n) for n in numbers],
            "end": [n + 1.5 for n in numbers],
            "speaker": [f"s{n // 6}" for n in numbers],
            "gender": ["female" if n // 6 % 2 else "male" for n in numbers],
            "emotion": [CLASSES[n % 3] for n in numbers],
            "valence": 4.0,
            "transcript": NAUGHTY,
            **votes(numbers),
        }
    )
    rated = [
        np.linspace(1, 7, SIZES[u.rstrip("0123456789")])[int(u.strip("adeinrstv"))] for u in ids
    ]
    return Manifest(frame.with_columns(valence=pl.Series(rated)), CLASSES, "m.csv")


def votes(numbers: list[int]) -> dict[str, list[int]]:
    """Return votes of four raters: unanimous, three to one, or split evenly."""
    counts = {f"votes.{name}": [0] * len(numbers) for name in CLASSES}
    for row, number in enumerate(numbers):
        others = number // 3 % 3
        counts[f"votes.{CLASSES[number % 3]}"][row] = 4 - others
        counts[f"votes.{CLASSES[(number + 1) % 3]}"][row] = others
    return counts


def top() -> pl.DataFrame:
    """Return what `ser.stack.compare.top_curve` would."""
    rows = [
        {
            "k": k,
            "head": head,
            "by": by,
            **{
                f"{split}{side}": 0.5 + 0.1 * k + d
                for split in ("dev", "test")
                for side, d in SIDES
            },
        }
        for k, head in ((1, "good"), (2, "poor"), (3, "other"))
        for by in ("mean", "plurality")
    ]
    return pl.DataFrame(rows)


SIDES = (("", 0.0), ("_low", -0.1), ("_high", 0.1))
