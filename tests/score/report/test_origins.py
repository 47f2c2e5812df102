from dataclasses import replace

import numpy as np
import polars as pl

from score.report import origins
from score.report.contents import Head


def test_how_heads_were_trained_is_told(full):
    assert origins.heads_table(full).rows()[0] == [
        "good",
        "f",
        "mean_mlp",
        "3",
        "12",
        "1.5",
        "7",
        "Quadro RTX 8000, 4 cores, device cuda",
    ]


def test_features_are_told_once_with_the_heads_that_read_them(full):
    heads = {name: Head("f", {"whisper": "w1"}, {}, None) for name in ("a", "b")}
    heads["b"].features["roberta"] = "r1"
    table = origins.features_table(replace(full, heads=heads))
    assert table.rows() == [["whisper", "w1", "a, b"], ["roberta", "r1", "b"]]


def test_versions_tell_when_the_heads_were_trained_with_others(full):
    table = dict(origins.made_table(full).frame.iter_rows())
    assert table["run"] == full.run.name
    assert table["stack"] == "random_forest over 2 heads"
    assert table["stack fitted on"] == "24 utterances, protocol oof, seed 42"
    assert table["numpy"] == f"{np.__version__} (heads trained with 1.0)"
    assert table["polars"] == pl.__version__


def test_of_a_head_without_head_json_only_the_fingerprint_is_known(full):
    bare = Head("f", {"whisper": "1"}, {}, None)
    contents = replace(full, heads=full.heads | {"good": bare})
    assert origins.heads_table(contents).rows()[0] == ["good", "f", *["–"] * 6]
