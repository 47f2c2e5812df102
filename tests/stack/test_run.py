import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cache.logits import HeadLogits, SplitLogits
from corpus.errors import UserError
from score.config import ScoreConfig
from score.run import score_run
from stack.config import StackConfig
from stack.forest import ForestStacker
from stack.run import fit, is_current, predict

HEADS = ["a", "b"]
FOREST = StackConfig(folds=2, random_forest={"trees": 5})
BOOSTING = StackConfig(model="lightgbm", folds=2, lightgbm={"rounds": 5, "min_data_in_leaf": 2})
RULES = [StackConfig(model="mean_logits"), StackConfig(model="majority")]


def about(run: Path) -> dict:
    return json.loads((run / "stack" / "stack.json").read_text())


def change(run: Path, head: str, **fields) -> None:
    path = run / "heads" / head / "logits.h5"
    replace(HeadLogits.read(path), **fields).write(path)


def relabel(run: Path, labels: list[int]) -> None:
    """Give the train rows of both heads these labels, and -1 to the rows beyond them."""
    for head in HEADS:
        splits = dict(HeadLogits.read(run / "heads" / head / "logits.h5").splits)
        label = np.array(labels + [-1] * (40 - len(labels)))
        splits["train"] = replace(splits["train"], label=label)
        change(run, head, splits=splits)


@pytest.mark.parametrize("config", [FOREST, BOOSTING, *RULES], ids=lambda c: c.model)
def test_the_saved_stack_predicts_what_the_fitted_one_did(write_run, config):
    run = write_run()
    returned = fit(run, HEADS, config)
    saved = pl.read_parquet(run / "stack" / "predictions.parquet")
    assert predict(run).equals(saved)
    assert returned == about(run)
    assert saved.columns == ["utterance", "split", "prediction", "p.angry", "p.sad", "p.happy"]
    assert saved["split"].value_counts().sort("split").rows() == [
        ("", 5),
        ("dev", 12),
        ("train", 40),
    ]
    assert saved.select(pl.sum_horizontal("^p\\..*$")).to_series().to_list() == pytest.approx(
        [1] * 57
    )
    assert not list(run.glob(".stack*"))


def test_stack_json_says_what_made_it(write_run):
    run = write_run()
    relabel(run, [0] * 20 + [1] * 7 + [2] * 10)
    said = fit(run, HEADS, FOREST)
    assert said["format"] == "ser-stack/1"
    assert said["heads"] == {"a": "made-a-0", "b": "made-b-0"}
    assert said["classes"] == ["angry", "sad", "happy"]
    assert said["rows"] == 21
    assert said["rows_per_class"] == {"angry": 7, "sad": 7, "happy": 7}
    assert StackConfig.model_validate(said["config"]) == FOREST
    said = fit(run, HEADS, FOREST.model_copy(update={"balance": False}))
    assert said["rows_per_class"] == {"angry": 20, "sad": 7, "happy": 10}
    assert fit(run, HEADS, RULES[0])["rows"] == 0
    assert [path.name for path in (run / "stack").glob("fold-*")] == []


def test_the_same_call_twice_gives_the_same_numbers(write_run):
    run = write_run()
    fit(run, HEADS, FOREST)
    first = pl.read_parquet(run / "stack" / "predictions.parquet")
    fit(run, HEADS, FOREST)
    assert pl.read_parquet(run / "stack" / "predictions.parquet").equals(first)


def test_heads_may_be_picked(write_run):
    run = write_run(heads=("a", "b", "c"))
    config = FOREST.model_copy(update={"heads": ("c", "a")})
    assert list(fit(run, ["a", "b", "c"], config)["heads"]) == ["c", "a"]
    assert is_current(run, ["a", "b", "c"], config)
    with pytest.raises(UserError) as error:
        fit(run, ["a", "b"], config)
    assert str(error.value) == ("stack.heads: 'c' is not a head of the pipeline; use one of a, b.")
    with pytest.raises(UserError, match="'a' stands twice; name each head once"):
        fit(run, ["a"], FOREST.model_copy(update={"heads": ("a", "a")}))


def test_a_folder_of_other_utterances_is_predicted(write_run, tmp_path):
    run = write_run(tmp_path / "run")
    fit(run, HEADS, FOREST)
    other = write_run(tmp_path / "other")
    for head in HEADS:
        splits = HeadLogits.read(other / "heads" / head / "logits.h5").splits
        change(other, head, splits={"": replace(splits["dev"], label=np.full(12, -1))})
    found = predict(run, other / "heads")
    dev = predict(run).filter(pl.col("split") == "dev")
    assert found["split"].to_list() == [""] * 12
    assert found.drop("split").equals(dev.drop("split"))


def test_logits_of_other_heads_are_not_predicted(write_run):
    run = write_run()
    fit(run, HEADS, FOREST)
    change(run, "b", fingerprint="newer")
    with pytest.raises(UserError) as error:
        predict(run)
    assert str(error.value) == (
        f"{run}/heads/b/logits.h5: head 'b' is not the one that the stack was fitted on (its "
        "fingerprint or its classes differ); fit the stack again with `ser stack fit`."
    )


def test_it_is_current_until_something_that_decides_changes(write_run):
    run = write_run()
    assert not is_current(run, HEADS, FOREST)
    fit(run, HEADS, FOREST)
    assert is_current(run, HEADS, FOREST)
    assert is_current(run, HEADS, FOREST.model_copy(update={"lightgbm": BOOSTING.lightgbm}))
    assert not is_current(run, HEADS, FOREST.model_copy(update={"folds": 3}))
    assert not is_current(run, ["b", "a"], FOREST)
    assert not is_current(run, ["a"], FOREST)
    change(run, "b", fingerprint="newer")
    assert not is_current(run, HEADS, FOREST)


def test_a_fit_that_dies_while_saving_leaves_the_old_stack(write_run, monkeypatch):
    run = write_run()
    fit(run, HEADS, FOREST)
    before = {path.name: path.read_bytes() for path in (run / "stack").iterdir()}

    def die(self: ForestStacker, folder: Path) -> None:
        self.write_member(self.members_[0], folder / "fold-0.skops")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ForestStacker, "save", die)
        with pytest.raises(KeyboardInterrupt):
            fit(run, HEADS, FOREST.model_copy(update={"seed": 1}))
    assert {path.name: path.read_bytes() for path in (run / "stack").iterdir()} == before
    assert is_current(run, HEADS, FOREST)
    fit(run, HEADS, FOREST.model_copy(update={"seed": 1}))
    assert sorted(path.name for path in run.iterdir()) == ["heads", "stack"]


@pytest.mark.parametrize("dies_at", ["stack", ".stack.part"])
def test_a_fit_that_dies_while_swapping_leaves_a_whole_stack_or_none(
    write_run, monkeypatch, dies_at
):
    run = write_run()
    fit(run, HEADS, FOREST)
    rename = Path.rename

    def die(self: Path, target: Path) -> Path:
        if self.name == dies_at:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            fit(run, HEADS, RULES[0])
    assert is_current(run, HEADS, FOREST) == (dies_at == "stack")
    assert not is_current(run, HEADS, RULES[0])
    fit(run, HEADS, RULES[0])
    assert is_current(run, HEADS, RULES[0])
    assert sorted(path.name for path in run.iterdir()) == ["heads", "stack"]


def test_a_missing_or_foreign_stack(write_run):
    run = write_run()
    with pytest.raises(UserError) as error:
        predict(run)
    path = run / "stack" / "stack.json"
    assert str(error.value) == f"{path}: there is no stack; fit it with `ser stack fit`."
    fit(run, HEADS, RULES[0])
    path.write_text(json.dumps({**about(run), "format": "ser-stack/9"}))
    with pytest.raises(UserError) as error:
        predict(run)
    assert str(error.value) == (
        f"{path}: the format is 'ser-stack/9', not 'ser-stack/1'; fit the stack again with "
        "`ser stack fit`."
    )


INSTEAD = "set stack.model to mean_logits or majority, which learn nothing."


def refusal(run: Path, config: StackConfig = FOREST) -> str:
    with pytest.raises(UserError) as error:
        fit(run, HEADS, config)
    for rule in RULES:
        fit(run, HEADS, rule)  # a rule needs no training row
    return str(error.value)


@pytest.mark.parametrize("without", ["rows", "labels"])
def test_nothing_to_learn_from(write_run, without):
    run = write_run()
    relabel(run, [])
    if without == "rows":
        for head in HEADS:
            splits = HeadLogits.read(run / "heads" / head / "logits.h5").splits
            change(run, head, splits={"dev": splits["dev"]})
    assert refusal(run) == (
        f"{run}/heads: the logits have no labelled rows in the split train, which a random_forest "
        f"is fitted on; train the heads on a manifest that has some, or {INSTEAD}"
    )


def test_a_class_that_is_missing_from_train(write_run):
    run = write_run()
    relabel(run, [0] * 20 + [2] * 20)
    assert refusal(run, BOOSTING) == (
        f"{run}/heads: no row of train is of the class 'sad'; add some, take it out of "
        f"corpus.classes, or {INSTEAD}"
    )


def test_fewer_rows_than_folds(write_run):
    run = write_run()
    relabel(run, [0] * 20 + [1] * 17 + [2] * 3)
    assert refusal(run, StackConfig()) == (
        f"{run}/heads: train has 3 rows of the class 'happy', fewer than the 5 folds; lower "
        f"stack.folds (2 is the least), or {INSTEAD}"
    )


@pytest.mark.parametrize("config", [FOREST, BOOSTING, RULES[1]], ids=lambda c: c.model)
def test_neither_import_nor_fit_nor_predict_brings_torch(write_run, config):
    run = write_run()
    code = (
        "import sys, pathlib, stack.run, score.run\n"
        "from stack.config import StackConfig\n"
        "heavy = {'torch', 'sklearn', 'lightgbm', 'skops', 'rich.table'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "run, config = sys.argv[1:]\n"
        "config = StackConfig.model_validate_json(config)\n"
        "stack.run.fit(pathlib.Path(run), ['a', 'b'], config)\n"
        "stack.run.predict(pathlib.Path(run))\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, str(run), config.model_dump_json()]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def votes_as_head(kind: int, frame: pl.DataFrame) -> HeadLogits:
    """Make a head of CREMA-D's raters: log vote shares of voice (1) or face (2) alone."""
    frame = frame.filter(pl.col("") // 100_000 == kind).sort("fileName")
    emotions = ["A", "D", "F", "H", "N", "S"]
    actor = frame["fileName"].str.slice(0, 4).cast(pl.Int64).to_numpy()
    truth = frame["fileName"].str.split("_").list.get(2).str.slice(0, 1).to_list()
    logits = np.log(frame.select(emotions).to_numpy() + 0.5)
    splits = {}
    for split, rows in (("train", actor < 1061), ("dev", actor >= 1061)):
        at = np.flatnonzero(rows)
        splits[split] = SplitLogits(
            utterance=[frame["fileName"][int(i)] for i in at],
            logits=logits[at],
            label=np.array([emotions.index(truth[i]) for i in at]),
            speaker=[str(a) for a in actor[at]],
            fold=np.full(len(at), -1),
            rows="held-out",
        )
    return HeadLogits(str(kind), tuple(emotions), f"votes-{kind}", {}, splits)


@pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")
def test_on_real_raters_the_stack_beats_the_best_of_its_heads(tmp_path):
    table = Path(os.environ["SER_SHARED"]) / "corpora" / "crema_d_tabulatedVotes.csv"
    frame = pl.read_csv(table, null_values="NA")
    both = frame.filter(pl.col("").floordiv(100_000) < 3).group_by("fileName").len()
    both = both.filter(pl.col("len") == 2)["fileName"]
    frame = frame.filter(pl.col("fileName").is_in(both.implode()))
    for kind, name in ((1, "voice"), (2, "face")):
        votes_as_head(kind, frame).write(tmp_path / "heads" / name / "logits.h5")
    fit(tmp_path, ["voice", "face"], StackConfig())
    dev = score_run(tmp_path, ScoreConfig(), ["voice", "face"])["dev"]
    assert dev["voice"]["macro_f1"] < dev["face"]["macro_f1"] < dev["stack"]["macro_f1"] - 0.03
