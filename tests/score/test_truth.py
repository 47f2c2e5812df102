import numpy as np
import polars as pl
import pytest

from corpus.errors import UserError
from corpus.manifest import Manifest
from score.truth import known_rows

DEV = {"dev": ([[1, 0], [0, 1]], [0, -1])}
RATED = {"predicted": np.ones((2, 2)), "truth": np.array([[1.0, np.nan], [3.0, 4.0]])}
BOTH = ("arousal", "valence")


def test_heads_tell_what_is_known(write_head):
    a = write_head("a", DEV, more={"dev": {"speaker": ["x", ""]}})
    b = write_head("b", DEV, attributes=BOTH, more={"dev": RATED})
    known = known_rows({"a": a, "b": b}, None, ["gender"])
    assert known.columns == ["utterance", "label", "speaker", "truth.arousal", "truth.valence"]
    assert known.drop("truth.valence").rows() == [("dev0", 0, "x", 1.0), ("dev1", -1, "", 3.0)]
    assert known["truth.valence"].is_nan().to_list() == [True, False]


def test_heads_may_not_differ_in_a_rating(write_head):
    a = write_head("a", DEV, attributes=BOTH, more={"dev": RATED})
    same = write_head("b", DEV, attributes=BOTH[::-1], more={"dev": turned(RATED)})
    assert known_rows({"a": a, "b": same}, None, []).height == 2
    other = {**RATED, "truth": np.array([[1.0, np.nan], [3.0, 5.0]])}
    b = write_head("b", DEV, attributes=BOTH, more={"dev": other})
    with pytest.raises(UserError) as error:
        known_rows({"a": a, "b": b}, None, [])
    assert str(error.value) == (
        "logits.h5 of head 'b': the valence of 'dev1' is not the one that another head was trained "
        "with; train all heads on one manifest."
    )


def turned(fields: dict) -> dict:
    return {name: values[:, ::-1] for name, values in fields.items()}


def test_the_manifest_tells_it_by_id(write_head):
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
    known = known_rows({"a": head}, Manifest(frame), ["gender", "age"])
    assert known.drop("truth.arousal", "truth.valence").rows() == [
        ("dev0", 1, None, None, "40"),
        ("dev1", 0, "p", None, "30"),
    ]
    assert known["truth.arousal"].is_nan().to_list() == [True, False]


def test_a_group_that_is_no_column_is_named(write_head):
    head = write_head("a", DEV)
    frame = pl.DataFrame({"utterance": ["dev0", "dev1"], "path": "x.wav"})
    with pytest.raises(UserError) as error:
        known_rows({"a": head}, Manifest(frame, source="m.csv"), ["accent"])
    assert str(error.value) == (
        "m.csv: there is no column 'accent', which score.groups names; add it to the manifest or "
        "take it out of pipeline.yaml."
    )
