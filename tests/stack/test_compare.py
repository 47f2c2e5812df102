from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from ser.cache.logits import HeadLogits
from ser.corpus.errors import UserError
from ser.score.attributes import ccc
from ser.score.compare import compare_classes
from ser.stack.compare import compare, name_of, top_curve, variants
from ser.stack.config import LEARNED, StackConfig
from ser.stack.model import FittedStack
from ser.stack.rules import TopK
from ser.stack.table import LogitTable

HEADS = ["a", "b", "c"]
SMALL = StackConfig(
    model="random_forest",
    folds=2,
    random_forest={"trees": 5},
    extra_trees={"trees": 5},
    lightgbm={"rounds": 5, "min_data_in_leaf": 2},
)
SIZES = {"train": 60, "dev": 40, "test": 50}


def chosen(table: LogitTable, config: StackConfig, split: str) -> np.ndarray:
    return FittedStack.fit(table, config).predict(table.splits[split]).chosen


def test_every_model_and_protocol_is_scored_once_and_as_fitted_alone(write_run):
    run = write_run(heads=HEADS, kind="out-of-fold", sizes=SIZES, speakers=6)
    frame, attributes = compare(run / "heads", HEADS, SMALL, 50)
    assert attributes.height == 0
    both = [(model, protocol) for model in LEARNED for protocol in ("oof", "unicamp")]
    fitted = ["log_pool", "mean_scaled", "weighted nnls", "greedy", "best_head"]
    rest = ["mean_logits", "mean_proba", "majority", "top_1", "top_3 mean", "top_3 plurality"]
    assert frame.select("model", "protocol").rows() == [
        *both,
        *((model, p) for model in fitted for p in ("oof", "unicamp")),
        ("weighted macro_f1", None),
        ("auto", "oof"),
        *((model, None) for model in rest),
    ]
    assert frame.filter("default").select("model", "protocol").rows() == [("random_forest", "oof")]
    table = LogitTable.read(run / "heads", HEADS)
    label = {split: table.splits[split].label for split in SIZES}
    default = chosen(table, SMALL, "test")
    for config, row in zip(variants(table, SMALL), frame.iter_rows(named=True), strict=True):
        assert name_of(config) == row["model"]
        f1 = {s: f1_score(y, chosen(table, config, s), average="macro") for s, y in label.items()}
        for split, value in f1.items():
            assert row[split] == pytest.approx(value)
        assert row["optimism"] == pytest.approx(f1["train"] - f1["test"])
        assert row["test_low"] <= row["test"] <= row["test_high"]
        paired = compare_classes(
            label["test"],
            chosen(table, config, "test"),
            default,
            table.splits["test"].speaker,
            3,
            resamples=50,
        )
        assert row["p"] == (None if row["default"] else paired["p"])


def test_in_sample_logits_promise_more_than_they_keep(write_run):
    run = write_run(heads=HEADS, kind="out-of-fold", sizes=SIZES | {"train": 300})
    frame, _ = compare(run / "heads", HEADS, SMALL, 50)
    row = {(m, p): o for m, p, o in frame.select("model", "protocol", "optimism").iter_rows()}
    held = dict(frame.filter(model="logistic").select("protocol", "held_out").iter_rows())
    assert row["logistic", "unicamp"] > row["logistic", "oof"] + 0.01
    assert held["unicamp"] > held["oof"]


def test_without_test_p_is_of_dev_and_what_is_lacking_is_null(write_run):
    run = write_run(heads=HEADS, sizes={"train": 60, "dev": 40}, speakers=4)
    frame, _ = compare(run / "heads", HEADS, SMALL.model_copy(update={"model": "majority"}), 50)
    assert set(frame["protocol"]) == {"unicamp", None}
    assert "test" not in frame.columns
    assert frame["optimism"].to_list() == frame["p"].to_list() == [None] * frame.height
    assert frame["dev_low"].to_list() == [None] * frame.height  # of 4 speakers
    assert frame["speakers"].to_list() == frame["dev_speakers"].to_list() == [4] * frame.height
    assert frame.filter("default")["model"].to_list() == ["majority"]


def test_a_configured_choice_of_heads_is_among_them(write_run):
    run = write_run(heads=HEADS)
    config = SMALL.model_copy(update={"model": "top_k"})
    top = config.top_k.model_copy(update={"k": 2, "by": "plurality"})
    frame, _ = compare(run / "heads", HEADS, config.model_copy(update={"top_k": top}), 10)
    assert frame.filter("default")["model"].to_list() == ["top_2 plurality"]
    frame, _ = compare(run / "heads", HEADS, config, 10)  # five of three
    assert frame.filter("default")["model"].to_list() == ["top_3 mean"]


def test_attributes_are_compared_by_ccc(write_run):
    run = write_run(heads=HEADS, sizes=SIZES, attributes=("arousal", "valence"), speakers=6)
    _, frame = compare(run / "heads", HEADS, SMALL, 50)
    assert frame.select("model", "default").rows() == [("ridge", True), ("mean", False)]
    table = LogitTable.read(run / "heads", HEADS)
    dev = table.splits["dev"]
    mean = dev.predicted.reshape(-1, 3, 2).astype(float).mean(axis=1)
    row = frame.row(1, named=True)
    assert [row["dev_arousal"], row["dev_valence"]] == pytest.approx(ccc(dev.truth, mean))
    assert row["dev"] == pytest.approx(ccc(dev.truth, mean).mean())
    assert row["dev_low"] < row["dev"] < row["dev_high"]
    assert 0 < row["p"] <= 1


def drop_class(run, split: str) -> None:
    for head in "ab":
        path = run / "heads" / head / "logits.h5"
        logits = HeadLogits.read(path)
        label = np.where(logits.splits[split].label == 1, 0, logits.splits[split].label)
        rows = replace(logits.splits[split], label=label)
        replace(logits, splits={**logits.splits, split: rows}).write(path)


def test_a_class_that_is_absent_from_test_is_left_out_of_its_mean(write_run):
    run = write_run(sizes=SIZES)
    drop_class(run, "test")
    frame, _ = compare(run / "heads", ["a", "b"], SMALL, 10)
    table = LogitTable.read(run / "heads", ["a", "b"])
    expected = chosen(table, SMALL, "test")
    f1 = f1_score(table.splits["test"].label, expected, average="macro", labels=[0, 2])
    assert frame.filter("default")["test"].to_list() == [pytest.approx(f1)]


def test_a_class_that_is_absent_from_dev_is_named(write_run):
    run = write_run()
    drop_class(run, "dev")
    with pytest.raises(UserError) as error:
        compare(run / "heads", ["a", "b"], SMALL)
    assert str(error.value) == (
        f"{run}/heads: dev has no rows of the class 'sad'; add some, or remove it from "
        "corpus.classes."
    )


def test_the_best_k_heads_are_those_of_dev_and_scored_as_the_rule_alone(write_run):
    run = write_run(heads=HEADS, sizes=SIZES, speakers=6)
    frame = top_curve(run / "heads", HEADS, SMALL, 50)
    assert frame.select("k", "by").rows() == [
        (k, by) for k in (1, 2, 3) for by in ("mean", "plurality")
    ]
    table = LogitTable.read(run / "heads", HEADS)
    dev = table.splits["dev"]
    for row in frame.iter_rows(named=True):
        rule = TopK(3, row["k"], row["by"]).fit(dev.logits, dev.label)
        assert row["head"] == HEADS[rule.heads_[-1]]
        for split in ("dev", "test"):
            rows = table.splits[split]
            f1 = f1_score(rows.label, rule.predict(rows.logits), average="macro")
            assert row[split] == pytest.approx(f1)
            assert row[f"{split}_low"] <= row[split] <= row[f"{split}_high"]


def test_the_best_k_heads_need_labels_of_dev_but_not_all_classes_and_no_test(write_run, tmp_path):
    sizes = {"train": 10, "dev": 2, "": 5}
    frame = top_curve(write_run(heads=HEADS, sizes=sizes) / "heads", HEADS, SMALL, 50)
    assert frame.columns == ["k", "head", "by", "dev", "dev_low", "dev_high", "dev_speakers"]
    run = write_run(tmp_path / "unlabelled", heads=HEADS, sizes={"": 5})
    assert top_curve(run / "heads", HEADS, SMALL, 50).height == 0
