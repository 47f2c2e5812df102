"""`ser stack compare` and `ablate` on a folder of logits: no pipeline file, no torch."""

import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from ser.cache.logits import HeadLogits, SplitLogits
from tests.ser.factories import make_corpus, ser

CLASSES = ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral")
FAST = ("--resamples", "20", "--set", "stack.folds=2", "--set", "stack.random_forest.trees=5")
FAST += ("--set", "stack.model=random_forest")


def write_logits(folder, heads=("a", "b"), kind="out-of-fold", attributes=()):
    """Write heads that know the label a bit."""
    for number, name in enumerate(heads):
        splits = {}
        for split, n in (("train", 120), ("dev", 80), ("test", 80)):
            label = np.arange(n) % 8
            rng = np.random.default_rng([number, n, len(split)])
            logits = rng.normal(size=(n, 8)) + 2 * np.eye(8)[label]
            truth = np.random.default_rng(n).uniform(1, 7, (n, len(attributes)))
            splits[split] = SplitLogits(
                utterance=[f"{split}{i}" for i in range(n)],
                logits=logits,
                label=label,
                speaker=[f"{split}{i // 8 % 6}" for i in range(n)],
                fold=np.full(n, -1),
                rows=kind if split == "train" else "held-out",
                in_sample=2 * logits if (split, kind) == ("train", "out-of-fold") else None,
                predicted=truth + rng.normal(size=truth.shape) if attributes else None,
                truth=truth if attributes else None,
            )
        path = folder / name / "logits.h5"
        HeadLogits(name, CLASSES, f"made-{name}", {}, splits, attributes).write(path)
    return folder


def test_a_folder_of_logits_is_all_that_is_needed_and_no_torch(tmp_path):
    logits = write_logits(tmp_path / "copied", attributes=("arousal",))
    calls = [
        ["stack", command, "--logits", str(logits), "--out", f"{command}.csv", *FAST]
        for command in ("compare", "ablate")
    ]
    code = (
        "import sys\nfrom ser.commands.main import cli\n"
        f"for call in {calls}:\n    cli(call, standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'ctranslate2'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    for split in ("test", "dev"):
        note = f"6 {split} speakers: with fewer than 20, intervals and p-values are rough.\n"
        assert note in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert "…" not in done.stdout
    assert "p: paired, test, against random_forest oof; gap: train - test" in done.stdout
    assert "mean CCC" in done.stdout
    compared, ablated = (pl.read_csv(tmp_path / f"{name}.csv") for name in ("compare", "ablate"))
    assert compared.filter("default")["model"].to_list() == ["random_forest"]
    assert ablated["head"].to_list() == ["a", "b"]
    assert ablated.columns[-8:] == list(CLASSES)


def test_a_folder_without_heads_and_an_unknown_option_cost_one_sentence(tmp_path):
    done = ser("stack", "compare", "--logits", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"ser: {tmp_path}: there is no <head>/logits.h5 in it; give the folder that holds the "
        "heads.\n",
    )
    write_logits(tmp_path)
    done = ser("stack", "ablate", "--logits", ".", "--set", "stack.fold=3", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "ser: --set stack.fold=3: stack.fold: unknown key; did you mean 'folds'?\n",
    )


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("out-of-fold", "protocol oof: all heads are cross-fitted"),
        ("in-sample", "protocol unicamp: not all heads are cross-fitted"),
    ],
)
def test_fit_reports_its_protocol(tmp_path, kind, why):
    make_corpus(tmp_path)
    write_logits(tmp_path / "run" / "heads", ("one", "two"), kind)
    done = ser("stack", "fit", "--set", "stack={model: logistic, folds: 3}", cwd=tmp_path)
    assert done.stdout == (
        f"{tmp_path}/run/stack: logistic over 2 heads, fitted on 120 utterances ({why})\n"
    )
    done = ser(
        "stack", "fit", "--set", "stack={model: greedy, protocol: oof, folds: 2}", cwd=tmp_path
    )
    if kind == "in-sample":
        assert done.returncode == 2
        assert done.stderr == (
            f"ser: {tmp_path}/run/heads/one/logits.h5: head 'one' has no out-of-fold logits for "
            "train; train it with cross_fit: 5 or set stack.protocol: unicamp.\n"
        )
    else:
        assert done.stdout.endswith("fitted on 120 utterances (protocol oof)\n")


def test_fit_prints_the_candidates_of_auto(tmp_path):
    make_corpus(tmp_path)
    write_logits(tmp_path / "run" / "heads", ("one", "two"))
    fast = ("--set", "stack={folds: 2, random_forest: {trees: 3}}")
    first, second = ser("stack", "fit", *fast, cwd=tmp_path).stdout.splitlines()
    model = first.removeprefix(f"{tmp_path}/run/stack: ").split()[0]
    assert first.endswith("(protocol oof: all heads are cross-fitted)")
    start = f"{model} was chosen by macro-F1 of held-out training rows: mean_logits 0."
    assert second.startswith(start)
    assert second.count(", ") == 6
    written = json.loads((tmp_path / "run/stack/stack.json").read_text())
    assert written["config"]["model"] == model


def test_the_pipeline_sets_the_resamples_unless_the_command_does(tmp_path):
    make_corpus(tmp_path)
    write_logits(tmp_path / "run" / "heads", ("one", "two"))
    words = ("stack", "ablate", "--out", "t.csv", "--set", "score.resamples=1")
    for place in ((), ("--logits", "run/heads", "--set", "stack.model=mean_logits")):
        for more, alike in (((), True), (("--resamples", "50"), False)):
            assert ser(*words, *place, *more, cwd=tmp_path).returncode == 0
            frame = pl.read_csv(tmp_path / "t.csv")
            assert (frame["low"] == frame["high"]).all() == alike
