import polars as pl

from ser.score.pairs import System
from ser.score.thresholds import Operating, Threshold, threshold_for


def system(rows, **columns):
    frame = pl.DataFrame(rows, ["split", "emotion", "prediction", "p.angry", "p.sad"], orient="row")
    return System("run", "h", ("angry", "sad"), frame.with_columns(**columns))


DEV = [
    ("dev", "angry", "angry", 0.9, 0.1),
    ("dev", "sad", "sad", 0.2, 0.8),
    ("dev", "sad", "angry", 0.7, 0.3),
    ("dev", None, "angry", 1.0, 0.0),  # without a label: counts nowhere
]
TEST = [
    ("test", "angry", "sad", 0.15, 0.85),
    ("test", "angry", "angry", 0.8, 0.2),
    ("test", "sad", "angry", 0.79, 0.21),
]


def test_dev_chooses_and_test_is_measured():
    assert threshold_for(system(DEV + TEST), 0.1) == Threshold(
        "h", 0.8, Operating(2 / 3, 0.0), Operating(2 / 3, 0.5)
    )


def test_without_test_labels_there_is_dev_alone():
    assert threshold_for(system(DEV), 0.4) == Threshold("h", 0.7, Operating(1.0, 1 / 3), None)


def test_a_risk_that_no_threshold_keeps_to_has_none():
    assert threshold_for(system(DEV[2:3]), 0.1) == Threshold("h", None, None, None)


def test_a_threshold_that_no_row_of_test_reaches_has_no_risk_there():
    assert threshold_for(system(DEV[:1] + TEST[2:]), 0.1) == Threshold(
        "h", 0.9, Operating(1.0, 0.0), Operating(0.0, None)
    )


def test_without_probabilities_or_dev_labels_there_is_nothing_to_choose():
    assert threshold_for(system(TEST), 0.1) is None
    bare = System("run", "h", ("angry", "sad"), system(DEV).rows.drop("p.sad"))
    assert threshold_for(bare, 0.1) is None
