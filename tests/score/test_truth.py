from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.score.truth import ground_truth, missing_groups

DEV = {"dev": ([[1, 0], [0, 1]], [0, -1])}
RATED = {"predicted": np.ones((2, 2)), "truth": np.array([[1.0, np.nan], [3.0, 4.0]])}
BOTH = ("arousal", "valence")


def test_heads_describe_what_is_known(write_head):
    a = write_head("a", DEV, more={"dev": {"speaker": ["x", ""]}})
    b = write_head("b", DEV, attributes=BOTH, more={"dev": RATED})
    table = ground_truth({"a": a, "b": b}, None, ["gender"])
    assert table.columns == ["utterance", "label", "speaker", "truth.arousal", "truth.valence"]
    assert table.drop("truth.valence").rows() == [("dev0", 0, "x", 1.0), ("dev1", -1, "", 3.0)]
    assert table["truth.valence"].is_nan().to_list() == [True, False]


def test_groups_come_from_the_heads_that_have_them(write_head):
    old = write_head("old", DEV)
    cells = {"groups": [["Female"], [""]]}
    new = replace(old, groups=("gender",), splits={"dev": replace(old.splits["dev"], **cells)})
    table = ground_truth({"old": old, "new": new}, None, ["gender", "accent"])
    assert table["group.gender"].to_list() == ["Female", None]
    assert "group.accent" not in table.columns
    assert missing_groups([old, new], ["gender", "accent"]) == ["accent"]


def test_heads_may_not_differ_in_a_speaker_or_a_group_that_both_know(write_head):
    a = write_head("a", DEV, more={"dev": {"speaker": ["x", ""], "groups": [["f"], [""]]}})
    b = write_head("b", DEV, more={"dev": {"speaker": ["", "y"], "groups": [["f"], ["m"]]}})
    a, b = replace(a, groups=("gender",)), replace(b, groups=("gender",))
    table = ground_truth({"a": a, "b": b}, None, ["gender"])
    assert table.drop("label").rows() == [("dev0", "x", "f"), ("dev1", "", None)]
    for changed, column in (
        ({"speaker": ["z", ""]}, "speaker"),
        ({"groups": [["m"], [""]]}, "gender"),
    ):
        other = replace(b, splits={"dev": replace(b.splits["dev"], **changed)})
        with pytest.raises(UserError) as error:
            ground_truth({"a": a, "b": other}, None, ["gender"])
        assert str(error.value) == (
            f"logits.h5 of head 'b': the {column} of 'dev0' is not the one that another head was "
            "trained with; train all heads on one manifest."
        )


def test_heads_may_not_differ_in_a_label(write_head):
    a = write_head("a", DEV)
    b = write_head("b", {"dev": ([[1, 0], [0, 1]], [0, 1])})
    with pytest.raises(UserError) as error:
        ground_truth({"a": a, "b": b}, None, [])
    assert str(error.value) == (
        "logits.h5 of head 'b': the label of 'dev1' is not the one that another head was trained "
        "with; train all heads on one manifest."
    )


def test_heads_may_not_differ_in_a_rating(write_head):
    a = write_head("a", DEV, attributes=BOTH, more={"dev": RATED})
    same = write_head("b", DEV, attributes=BOTH[::-1], more={"dev": turned(RATED)})
    assert ground_truth({"a": a, "b": same}, None, []).height == 2
    other = {**RATED, "truth": np.array([[1.0, np.nan], [3.0, 5.0]])}
    b = write_head("b", DEV, attributes=BOTH, more={"dev": other})
    with pytest.raises(UserError) as error:
        ground_truth({"a": a, "b": b}, None, [])
    assert str(error.value) == (
        "logits.h5 of head 'b': the valence of 'dev1' is not the one that another head was trained "
        "with; train all heads on one manifest."
    )


def turned(fields: dict) -> dict:
    return {name: values[:, ::-1] for name, values in fields.items()}


def test_the_manifest_gives_it_by_id(write_head):
    head = write_head("a", DEV, attributes=BOTH, more={"dev": RATED})
    frame = pl.DataFrame(
        {
            "utterance": ["dev1", "dev0"],
            "path": "x.wav",
            "emotion": ["angry", "sad"],
            "speaker": ["p", None],
            "arousal": [2.0, None],
            "age": [30, 40],
        }
    )
    table = ground_truth({"a": head}, Manifest(frame), ["gender", "age"])
    assert table.drop("truth.arousal", "truth.valence").rows() == [
        ("dev0", 1, None, None, "40"),
        ("dev1", 0, "p", None, "30"),
    ]
    assert table["truth.arousal"].is_nan().to_list() == [True, False]


def test_a_group_that_is_not_a_column_is_named(write_head):
    head = write_head("a", DEV)
    frame = pl.DataFrame({"utterance": ["dev0", "dev1"], "path": "x.wav"})
    with pytest.raises(UserError) as error:
        ground_truth({"a": head}, Manifest(frame, source="m.csv"), ["accent"])
    assert str(error.value) == (
        "m.csv: there is no column 'accent', which score.groups names; add it to the manifest or "
        "remove it from pipeline.yaml."
    )
