"""metrics.json: what is read is what was written; damage is one sentence with its remedy."""

import json

import pytest

from ser.corpus.errors import UserError
from ser.score.scores import metrics_text, plain_values, read_metrics
from tests.score.factories import entry

GROUP = {"n": 2, "speakers": 7, "macro_f1": 0.5, "interval": {"macro_f1": [0.25, 0.75]}}
GAP = {"difference": 0.1, "interval": None, "highest": "f", "lowest": "m", "speakers": 7}
VOTES = {"n": 2, "speakers": None, "jsd": 0.5, "interval": {"jsd": None}, "by_entropy": {}}
FULL = entry(
    interval={"macro_f1": [0.25, 0.75], "uar": None, "accuracy": None, "own": None}
    | {"per_class": {"sad": [0.0, 1.0]}},
    own=2.5,
    attributes={"mean": {"ccc": 0.5, "n": 2, "interval": [0.25, 0.75]}},
    distributions=VOTES,
    groups={"gender": {"f": GROUP, "m": GROUP, "gap": {"macro_f1": GAP}}},
    clusters=7,
    speakers=7,
    train={"in_sample": 0.75, "out_of_fold": None, "optimism": 0.25},
)


def write(folder, metrics):
    path = folder / "metrics.json"
    path.write_text(json.dumps(metrics))
    return path


def test_what_is_read_is_what_was_written(tmp_path):
    metrics = {"dev": {"one": FULL}, "test": {"one": FULL | {"baseline": True}, "two": {}}}
    read = read_metrics(write(tmp_path, metrics))
    assert plain_values(read) == metrics
    one = read["test"]["one"]
    assert one.classes.further == ["own"] and one.classes.scores["own"].value == 2.5
    assert one.classes.per_class["sad"].interval == [0.0, 1.0]
    assert one.groups["gender"].groups["m"].scores["macro_f1"].interval == [0.25, 0.75]
    assert (one.score("macro_f1"), one.score("ccc"), one.baseline) == (0.5, 0.5, True)
    assert (read["test"]["two"].score("macro_f1"), read["test"]["two"].score("ccc")) == (None, None)


def test_keys_of_another_version_are_left_out_and_its_speakers_counted(tmp_path):
    earlier = {key: value for key, value in FULL.items() if key != "speakers"} | {"later": [1]}
    few, unknown = earlier | {"clusters": 1}, earlier | {"clusters": 2}  # of two utterances
    read = read_metrics(write(tmp_path, {"dev": {"few": few, "unknown": unknown}}))["dev"]
    assert (read["few"].speakers, read["unknown"].speakers) == (1, None)
    assert "later" not in plain_values({"dev": read})["dev"]["few"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"n": -1}, "'dev.one.classes.n' is not valid: it must be greater than or equal to 0"),
        ({"accuracy": 1.5}, "'dev.one.classes' is not valid: a score is below 0 or above 1"),
        ({"interval": 5}, "'dev.one.classes' is not valid: it has no intervals"),
        ({"confusion": [[1], [2]]}, "'dev.one.classes' is not valid: the confusion matrix has not"),
        ({"groups": {"gender": {"f": 1}}}, "'dev.one.groups.gender.groups.f' is not valid: "),
        ({"attributes": {"mean": {"ccc": 2.0, "n": 1}}}, "'dev.one.attributes.mean.ccc' is not"),
    ],
)
def test_damage_is_one_sentence_with_the_field_and_the_remedy(tmp_path, change, problem):
    path = write(tmp_path, {"dev": {"one": FULL | change}})
    with pytest.raises(UserError) as error:
        read_metrics(path)
    assert str(error.value).startswith(f"{path}: {problem}")
    assert str(error.value).endswith("; score the run again with `ser score`.")


def test_a_changed_number_is_found_by_the_checksum(tmp_path):
    path = tmp_path / "metrics.json"
    metrics = read_metrics(write(tmp_path, {"dev": {"one": FULL}}))  # earlier files have none
    text = metrics_text(metrics)
    path.write_text(text)
    assert read_metrics(path) == metrics
    path.write_text(text.replace('"own": 2.5', '"own": 2.75'))
    with pytest.raises(UserError) as error:
        read_metrics(path)
    assert str(error.value) == (
        f"{path}: it is damaged (its checksum is not that of its content); "
        "score the run again with `ser score`."
    )
