"""`stack.json` is read with bounds: no name, number or option that could harm who reads it."""

import json

import pytest

from ser.corpus.errors import DamagedError
from ser.stack.config import StackConfig
from ser.stack.record import StackRecord

CONFIG = StackConfig(model="lightgbm", folds=2)
VALUES = {
    "format": "ser-stack/2",
    "fingerprint": "abc",
    "config": CONFIG.model_dump(mode="json"),
    "protocol": "oof",
    "temperature": 1.25,
    "heads": {"a": "f0"},
    "classes": ["sad", "happy"],
    "attributes": [],
    "rows": 9,
    "rows_per_class": {"sad": 4, "happy": 5},
}


def test_a_record_comes_back_and_keeps_its_bytes(tmp_path):
    path = tmp_path / "stack.json"
    record = StackRecord.model_validate(VALUES)
    record.write(path)
    text = path.read_text()
    crc = json.loads(text)["crc32c"]
    assert text == json.dumps({**VALUES, "crc32c": crc}, indent=2) + "\n"
    assert StackRecord.read(path) == record
    assert record.stack_config(path) == CONFIG


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": "ser-stack/9"}, "the format is 'ser-stack/9', not 'ser-stack/2'"),
        ({"format": [1]}, "the format is '[1]', not 'ser-stack/2'"),
        ({"temperature": 0}, "'temperature' is not valid: it must be greater than"),
        ({"temperature": "1"}, "'temperature' is not valid: it must be a valid number"),
        ({"temperature": float("nan")}, "'temperature' is not valid: it must be a valid"),
        ({"temperature": 1e300}, "'temperature' is not valid: it must be less than"),
        ({"heads": {"../a": "f"}}, "'heads.../a.[key]' is not valid: it must match"),
        ({"heads": ["a"]}, "'heads' is not valid: it must be a mapping"),
        ({"heads": {}}, "'heads' is not valid: it must have at least 1 entry"),
        ({"classes": ["sad", "sad"]}, "'classes' is not valid: a name appears twice"),
        ({"protocol": "none"}, "'protocol' is not valid: it must be 'oof' or 'unicamp'"),
        ({"offsets": [0.5, 0.5]}, "it has 2 offsets, not one for each class"),
        ({"config": VALUES["config"] | {"offsets": True}}, "it has 0 offsets, not one for each"),
        ({"config": VALUES["config"] | {"model": "x"}}, "its config: 'model' is not valid"),
        ({"config": VALUES["config"] | {"folds": 10**9}}, "its config"),
        ({"config": VALUES["config"] | {"draws": 10**9}}, "its config"),
    ],
)
def test_what_is_out_of_bounds_is_refused(tmp_path, changes, expected):
    path = tmp_path / "stack.json"
    path.write_text(json.dumps(VALUES | changes))
    with pytest.raises(DamagedError) as error:
        StackRecord.read(path).stack_config(path)
    assert error.value.problem.startswith(expected)
    assert str(error.value).endswith("; fit the stack again with `ser stack fit`.")
