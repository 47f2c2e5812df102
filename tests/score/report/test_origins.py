from dataclasses import replace

import numpy as np
import polars as pl

from ser.score.record import HeadSummary, StackCandidate
from ser.score.report import origins
from ser.score.report.contents import Head


def test_the_training_of_each_head_is_a_row(whole):
    assert origins.heads_table(whole).rows()[0] == [
        "good",
        "f",
        "mean_mlp",
        "3",
        "12",
        "1.5",
        "7",
        "Quadro RTX 8000, 4 cores, device cuda",
    ]


def test_each_feature_is_a_row_with_the_heads_that_read_it(whole):
    heads = {name: Head("f", {"whisper": "w1"}, HeadSummary(), None) for name in ("a", "b")}
    heads["b"].features["roberta"] = "r1"
    table = origins.features_table(replace(whole, heads=heads))
    assert table.rows() == [["whisper", "w1", "a, b"], ["roberta", "r1", "b"]]


def test_the_candidates_of_auto_are_a_row(whole):
    candidates = [
        StackCandidate(model=m, macro_f1=f) for m, f in (("greedy", 0.5), ("logistic", 1))
    ]
    stack = whole.stack.model_copy(update={"candidates": candidates})
    table = dict(origins.setup_table(replace(whole, stack=stack)).frame.iter_rows())
    assert table["stack candidates"] == (
        "greedy 0.500, logistic 1.000 (macro-F1 of held-out training rows)"
    )


def test_versions_differ_from_those_that_the_heads_were_trained_with(whole):
    table = dict(origins.setup_table(whole).frame.iter_rows())
    assert table["run"] == whole.run.name
    assert table["stack"] == "random_forest over 2 heads"
    assert table["stack fitted on"] == "24 utterances"
    assert table["stack protocol"] == "oof, seed 42"
    assert table["numpy"] == f"{np.__version__} (heads trained with 1.0)"
    assert table["polars"] == pl.__version__


def test_without_head_json_only_the_fingerprint_of_a_head_is_shown(whole):
    bare = Head("f", {"whisper": "1"}, HeadSummary(), None)
    contents = replace(whole, heads=whole.heads | {"good": bare})
    assert origins.heads_table(contents).rows()[0] == ["good", "f", *["–"] * 6]
