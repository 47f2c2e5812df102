from dataclasses import replace

import numpy as np
import pytest

from ser.score.record import HeadSummary
from ser.score.report import tables
from ser.score.report.contents import Head
from ser.score.report.votes import strata_table, votes_table
from tests.score.report.conftest import CLASSES, CONFIG, top


def test_the_papers_table_has_its_columns_and_a_row_a_system(whole):
    table = tables.paper_table(whole)
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
    ingredients = [row[:4] for row in table.rows()]
    assert ingredients == [
        ["good", "–", "WCE + SML", "neutral expressive"],
        ["poor", "–", "WCE + SML", "neutral expressive"],
        ["stack", "random forest of 2 heads", "–", "yes"],
    ]
    dev = whole.metrics["dev"]["poor"].classes
    assert table.frame.row(1)[4:] == (
        dev.scores["macro_f1"].value,
        dev.scores["accuracy"].value,
        dev.bootstrap.mean,
        [dev.bootstrap.min, dev.bootstrap.max],
        whole.metrics["test"]["poor"].score("macro_f1"),
    )
    assert {column for _, column in table.bold()} == {4, 5, 6, 8}


def head(**config) -> Head:
    summary = HeadSummary.model_validate({"config": CONFIG | config})
    return Head("f", {"whisper": "1", "roberta": "2"}, summary, None)


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
def test_features_losses_and_samplers_of_a_head(whole, config, expected):
    contents = replace(whole, heads=whole.heads | {"good": head(**config)})
    assert tables.paper_table(contents).frame.row(0)[1:4] == expected


@pytest.mark.parametrize(
    ("rows", "per_class", "expected"),
    [(0, {}, "–"), (9, {"a": 4, "b": 5}, "no"), (8, {"a": 4, "b": 4}, "yes")],
)
def test_a_stack_is_balanced_when_it_learned_from_as_many_rows_of_each_class(
    whole, rows, per_class, expected
):
    counts = {"rows": rows, "rows_per_class": per_class}
    contents = replace(whole, stack=whole.stack.model_copy(update=counts))
    assert tables.paper_table(contents).frame.row(2)[3] == expected


def test_a_head_without_head_json_is_identified_by_its_features(whole):
    bare = Head("f", {"whisper": "1"}, HeadSummary(), None)
    contents = replace(whole, heads=whole.heads | {"good": bare})
    assert tables.paper_table(contents).rows()[0][1:4] == ["whisper", "–", "–"]


def test_intervals_are_those_of_the_metrics(whole):
    table = tables.intervals_table(whole, "test")
    good = whole.metrics["test"]["good"].classes
    f1, uar, accuracy = (good.scores[metric] for metric in ("macro_f1", "uar", "accuracy"))
    assert table.frame.row(0) == (
        *("good", f1.value, f1.interval, uar.value, uar.interval),
        *(accuracy.value, accuracy.interval, good.ece, good.aurc),
    )


def test_the_confusion_table_has_the_counts(whole):
    table = tables.confusion_table(whole)
    assert table.columns == ["True class", *CLASSES]
    counts = np.array(whole.metrics["test"]["stack"].classes.confusion)
    assert (table.frame.select(CLASSES).to_numpy() == counts).all()
    assert counts.sum(axis=1).tolist() == [10, 10, 10]


def test_a_class_that_does_not_occur_has_no_f1(full):
    stack = full.metrics["test"]["stack"].classes
    stack.confusion[1] = [0, 0, 0]
    stack.per_class["sad"].interval = None
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
    assert table.rows() == [
        ["1", "good", *["0.600"] * 4],
        ["2", "poor", *["0.700"] * 4],
        ["3", "other", *["0.800"] * 4],
    ]
    only_dev = tables.top_table(top().select("k", "head", "by", "dev"))
    assert only_dev.columns == ["k", "Head added", "Dev, mean", "Dev, plurality"]


def test_groups_end_with_the_gap(whole):
    scored = whole.metrics["test"]["stack"].groups["gender"]
    table = tables.group_table("gender", scored)
    titles = ["Macro-F1", "Macro-F1, 95 %", "UAR", "UAR, 95 %"]
    assert table.columns == ["Gender", "n", "Speakers", *titles]
    assert table.frame["Gender"].to_list() == ["female", "male", "gap (highest – lowest)"]
    assert table.frame.select("n", "Speakers").rows() == [(12, 2), (18, 3), (None, None)]
    assert scored.gap["macro_f1"].interval is None
    difference = scored.gap["macro_f1"].difference
    assert table.rows()[2][3:5] == [f"{difference:.3f}", "n/a"]  # of two and three speakers


def test_under_five_speakers_the_tables_have_no_interval(full):
    for system in full.metrics["test"].values():
        system.speakers = system.clusters = 4
        for score in (*system.classes.scores.values(), *system.classes.per_class.values()):
            score.interval = None
    cells = [cell for row in tables.intervals_table(full, "test").rows() for cell in row]
    assert cells.count("n/a: 4 speakers") == 3 * len(full.metrics["test"])
    assert [row[3] for row in tables.per_class_table(full).rows()] == ["n/a: 4 speakers"] * 3


def test_attributes_and_their_mean_are_a_row_each(whole):
    table = tables.attributes_table(whole, "test")
    assert table.frame.select("System", "Attribute", "n").rows() == [
        ("good", "valence", 30),
        ("good", "mean", 30),
        ("poor", "valence", 30),
        ("poor", "mean", 30),
    ]
    scores = whole.metrics["test"]["good"].attributes["valence"]
    assert table.frame.row(0)[3:] == (scores.ccc, scores.interval, scores.pearson, scores.rmse)


def test_the_generalization_gap_is_of_heads_with_rows_of_train(full):
    table = tables.generalization_table(full)
    train = full.metrics["test"]["poor"].train
    assert table.frame.row(1) == ("poor", train.in_sample, train.out_of_fold, train.optimism)
    for system in full.metrics["test"].values():
        system.train = None
    assert tables.generalization_table(full) is None


def test_votes_have_a_row_a_system_and_a_row_a_stratum(whole):
    table = votes_table(whole, "test")
    votes = whole.metrics["test"]["good"].distributions
    jsd, kld = votes.scores["jsd"], votes.scores["kld"]
    assert table.columns[:4] == ["System", "n", "JSD", "JSD, 95 %"]
    assert table.frame.row(0)[:6] == (
        *("good", 30, jsd.value, jsd.interval),
        *(kld.value, kld.interval),
    )
    assert table.frame["System"].to_list() == ["good", "poor", "stack"]
    strata = strata_table(votes.by_entropy, "the head good on test")
    assert strata.frame["Entropy"].to_list() == ["low (0.00)", "medium (0.81)", "high (1.00)"]
    assert strata.frame["n"].to_list() == [12, 9, 9]
