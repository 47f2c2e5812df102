from dataclasses import replace

import numpy as np
import pytest

from score.report import tables
from score.report.contents import Head
from tests.score.report.conftest import CLASSES, CONFIG, top


def test_the_papers_table_has_its_columns_and_a_row_a_system(full):
    table = tables.paper_table(full)
    assert table.columns == [
        "System",
        "Features",
        "Loss",
        "Balancing",
        "Dev macro-F1",
        "Dev acc.",
        "Bootstrap mean",
        "Range",
        "Test macro-F1",
    ]
    made_of = [row[:4] for row in table.rows()]
    assert made_of == [
        ["good", "–", "WCE + SML", "neutral expressive"],
        ["poor", "–", "WCE + SML", "neutral expressive"],
        ["stack", "random_forest of 2 heads", "–", "yes"],
    ]
    dev, test = full.metrics["dev"]["poor"], full.metrics["test"]["poor"]
    drawn = dev["bootstrap"]
    assert table.frame.row(1)[4:] == (
        dev["macro_f1"],
        dev["accuracy"],
        drawn["mean"],
        [drawn["min"], drawn["max"]],
        test["macro_f1"],
    )
    assert {column for _, column in table.bold()} == {4, 5, 6, 8}


def head(**config) -> Head:
    return Head("f", {"whisper": "1", "roberta": "2"}, {"config": CONFIG | config}, None)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ("whisper + roberta", "WCE + SML", "neutral expressive")),
        (
            {"loss": [{"name": "soft_f1"}], "sampler": {"name": "natural"}},
            ("whisper + roberta", "soft f1", "no"),
        ),
        (
            {
                "phases": [
                    {"loss": [{"name": "kld"}], "sampler": None},
                    {"loss": None, "sampler": {"name": "natural"}},
                ]
            },
            ("whisper + roberta", "KLD + WCE + SML", "neutral expressive + no"),
        ),
    ],
)
def test_what_a_head_is_made_of(full, config, expected):
    contents = replace(full, heads=full.heads | {"good": head(**config)})
    assert tables.paper_table(contents).frame.row(0)[1:4] == expected


@pytest.mark.parametrize(
    ("rows", "per_class", "expected"),
    [(0, {}, "–"), (9, {"a": 4, "b": 5}, "no"), (8, {"a": 4, "b": 4}, "yes")],
)
def test_a_stack_is_balanced_when_it_learned_from_as_many_rows_of_each_class(
    full, rows, per_class, expected
):
    contents = replace(full, stack=full.stack | {"rows": rows, "rows_per_class": per_class})
    assert tables.paper_table(contents).frame.row(2)[3] == expected


def test_a_head_without_head_json_is_known_by_its_features(full):
    bare = Head("f", {"whisper": "1"}, {}, None)
    contents = replace(full, heads=full.heads | {"good": bare})
    assert tables.paper_table(contents).rows()[0][1:4] == ["whisper", "–", "–"]


def test_intervals_are_those_of_the_metrics(full):
    table = tables.intervals_table(full, "test")
    numbers = full.metrics["test"]["good"]
    assert table.frame.row(0) == (
        "good",
        numbers["macro_f1"],
        numbers["interval"]["macro_f1"],
        numbers["uar"],
        numbers["interval"]["uar"],
        numbers["accuracy"],
        numbers["interval"]["accuracy"],
        numbers["ece"],
    )


def test_the_confusion_table_has_the_counts(full):
    table = tables.confusion_table(full)
    assert table.columns == ["True class", *CLASSES]
    counts = np.array(full.metrics["test"]["stack"]["confusion"])
    assert (table.frame.select(CLASSES).to_numpy() == counts).all()
    assert counts.sum(axis=1).tolist() == [10, 10, 10]


def test_a_class_that_does_not_occur_has_no_f1(full):
    numbers = full.metrics["test"]["stack"]
    numbers["confusion"][1] = [0, 0, 0]
    numbers["interval"]["per_class"]["sad"] = None
    assert tables.per_class_table(full).rows()[1] == ["sad", "0", "–", "–"]


def test_the_best_k_heads_are_a_row_each():
    table = tables.top_table(top())
    assert table.columns == [
        "k",
        "Head added",
        "Dev, mean",
        "Dev, plurality",
        "Test, mean",
        "Test, plurality",
    ]
    assert table.rows() == [["1", "good", *["0.600"] * 4], ["2", "poor", *["0.700"] * 4]]
    only_dev = tables.top_table(top().select("k", "head", "by", "dev"))
    assert only_dev.columns == ["k", "Head added", "Dev, mean", "Dev, plurality"]


def test_groups_end_with_the_gap(full):
    scored = full.metrics["test"]["stack"]["groups"]["gender"]
    table = tables.group_table("gender", scored)
    assert table.columns == ["Gender", "n", "Macro-F1", "Macro-F1, 95 %", "UAR", "UAR, 95 %"]
    assert table.frame["Gender"].to_list() == ["female", "male", "gap (highest – lowest)"]
    assert table.frame["n"].to_list() == [12, 18, None]
    gap = scored["gap"]["macro_f1"]
    assert table.frame.row(2)[2:4] == (gap["difference"], gap["interval"])


def test_attributes_and_their_mean_are_a_row_each(full):
    table = tables.attributes_table(full, "test")
    assert table.frame.select("System", "Attribute", "n").rows() == [
        ("good", "valence", 30),
        ("good", "mean", 30),
        ("poor", "valence", 30),
        ("poor", "mean", 30),
    ]
    numbers = full.metrics["test"]["good"]["attributes"]["valence"]
    assert table.frame.row(0)[3:] == tuple(
        numbers[k] for k in ("ccc", "interval", "pearson", "rmse")
    )


def test_optimism_is_of_heads_with_rows_of_train(full):
    table = tables.optimism_table(full)
    train = full.metrics["test"]["poor"]["train"]
    assert table.frame.row(1) == (
        "poor",
        train["in_sample"],
        train["out_of_fold"],
        train["optimism"],
    )
    for numbers in full.metrics["test"].values():
        numbers.pop("train", None)
    assert tables.optimism_table(full) is None
