import numpy as np
import pytest

from ser.score.attributes import ccc
from ser.score.bootstrap import resample_speakers
from ser.score.groups import attribute_scores, class_scores, score_groups
from ser.score.metrics import score


def by_group(groups, labels, predictions, speakers, classes=2):
    draw = resample_speakers(speakers, 500, 0)

    def scores(mask):
        return class_scores(draw, np.where(mask, labels, -1), predictions, classes)

    return score_groups(groups, draw, scores)


def sample(right: dict[str, float], rows=400):
    """Make rows of groups with this accuracy; each speaker is of one group."""
    rng = np.random.default_rng(0)
    speaker = np.arange(rows) % 20
    groups = [list(right)[i % len(right)] for i in speaker]
    labels = rng.integers(0, 2, rows)
    hit = rng.random(rows) < [right[group] for group in groups]
    return groups, labels, np.where(hit, labels, 1 - labels), [f"s{i}" for i in speaker]


def test_every_group_is_scored_as_if_alone_and_the_gap_has_an_interval():
    groups, labels, predictions, speakers = sample({"female": 0.9, "male": 0.7})
    scored = by_group(groups, labels, predictions, speakers)
    for group in ("female", "male"):
        rows = np.array(groups) == group
        alone = score(labels[rows], predictions[rows], ("a", "b"))
        for metric in ("macro_f1", "uar", "accuracy", "n"):
            assert scored[group][metric] == pytest.approx(alone[metric])
        low, high = scored[group]["interval"]["macro_f1"]
        assert low < alone["macro_f1"] < high
    gap = scored["gap"]["macro_f1"]
    difference = scored["female"]["macro_f1"] - scored["male"]["macro_f1"]
    assert gap["difference"] == pytest.approx(difference)
    assert (gap["highest"], gap["lowest"]) == ("female", "male")
    assert 0 < gap["interval"][0] < difference < gap["interval"][1]
    assert set(scored["gap"]) == {"macro_f1", "uar", "accuracy"}


def test_the_gap_is_from_the_highest_to_the_lowest_and_may_be_none():
    groups, *rest = sample({"a": 0.8, "b": 0.81, "c": 0.8})
    scored = by_group(groups, *rest)
    values = {group: scored[group]["macro_f1"] for group in "abc"}
    gap = scored["gap"]["macro_f1"]
    assert gap["difference"] == max(values.values()) - min(values.values())
    assert values[gap["highest"]] == max(values.values())
    assert gap["interval"][0] < 0 < gap["interval"][1]


def test_rows_without_a_group_are_left_out_and_one_group_has_no_gap():
    labels, speakers = np.array([0, 1, 1]), ["x", "y", "z"]
    scored = by_group(["old", None, "old"], labels, labels, speakers)
    assert set(scored) == {"old"}
    assert (scored["old"]["n"], scored["old"]["accuracy"]) == (2, 1.0)
    assert by_group([None] * 3, labels, labels, speakers) == {}


def test_resamples_without_the_group_do_not_count_against_it():
    labels = np.array([0, 1] * 10)
    groups = ["a"] * 5 + ["b"] * 15
    scored = by_group(groups, labels, labels, [f"s{i}" for i in range(20)])
    assert scored["a"]["interval"]["macro_f1"] == [1.0, 1.0]  # in some draws nobody is of it
    assert scored["gap"]["macro_f1"]["interval"] == [0.0, 0.0]


def test_attributes_are_scored_by_the_mean_ccc_of_those_known():
    rng = np.random.default_rng(0)
    truth, predicted = rng.uniform(1, 7, (60, 3)), rng.uniform(1, 7, (60, 3))
    truth[:, 1] = np.nan
    draw = resample_speakers([f"s{i % 9}" for i in range(60)], 200, 0)
    value, drawn = attribute_scores(draw, truth, predicted)["ccc"]
    assert value == pytest.approx(ccc(truth, predicted)[[0, 2]].mean())
    assert drawn.shape == (200,)
    assert attribute_scores(draw, np.full((60, 3), np.nan), predicted) == {}
    assert class_scores(draw, np.full(60, -1), np.zeros(60, int), 2) == {}


def test_a_group_of_four_speakers_has_no_interval():
    labels = np.array([0, 1] * 9)
    speakers = [f"s{i // 2}" for i in range(18)]
    scored = by_group(["a"] * 8 + ["b"] * 10, labels, labels, speakers)
    assert (scored["a"]["macro_f1"], scored["a"]["speakers"]) == (1.0, 4)
    assert scored["a"]["interval"]["macro_f1"] is None
    assert scored["b"]["interval"]["macro_f1"] == [1.0, 1.0]
    gap = scored["gap"]["macro_f1"]
    assert (gap["interval"], gap["speakers"]) == (None, 4)
