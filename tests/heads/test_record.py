"""`head.json` is read with bounds: no size, name or option that could harm who reads it."""

import json

import pytest

from ser.corpus.errors import DamagedError
from ser.heads.config import parse_head
from ser.heads.record import HeadRecord, is_stale, read_done
from ser.heads.scaling import scaled

CONFIG = parse_head({"head": "mean_mlp", "features": ["voice"], "hidden": 8})
VALUES = {
    "head": "h",
    "fingerprint": "abc",
    "made_from": {"classes": ["sad", "happy"], "features": {"voice": "f0"}, "version": 2},
    "config": CONFIG.model_dump(mode="json"),
    "frames": {"voice": [16]},
    "outputs": {"logits": 2},
    "weights": ["head"],
    "score": None,
    "dev": {"dev_macro_f1": 0.5},
    "epochs": 3,
    "seconds": 1.5,
}


def damage(tmp_path, **changes) -> str:
    path = tmp_path / "heads" / "h" / "head.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(VALUES | changes))
    with pytest.raises(DamagedError) as error:
        HeadRecord.read(path).head_config(path)
    assert "\n" not in str(error.value)
    assert error.value.remedy == "train the head again with `ser heads train h --force`"
    return error.value.problem


def test_a_record_comes_back_and_keeps_its_layout(tmp_path):
    path = tmp_path / "heads" / "h" / "head.json"
    path.parent.mkdir(parents=True)
    record = HeadRecord.model_validate(VALUES)
    record.write(path)
    assert read_done(tmp_path, "h") == record
    values = json.loads(path.read_text())
    assert len(values.pop("crc32c")) == 8
    assert values == VALUES
    assert list(values) == list(VALUES)
    assert record.head_config(path) == CONFIG
    assert (record.classes, record.features) == (("sad", "happy"), {"voice": "f0"})
    assert read_done(tmp_path, "other") is None


def test_a_damaged_record_of_a_fine_tuned_model_names_its_command(tmp_path):
    (tmp_path / "finetuned" / "h").mkdir(parents=True)
    path = tmp_path / "heads" / "h" / "head.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(DamagedError) as error:
        HeadRecord.read(path)
    assert error.value.remedy == "train the head again with `ser finetune h --force`"


def test_a_score_that_is_not_a_number_is_unknown(tmp_path):
    assert HeadRecord.model_validate(VALUES | {"score": float("nan")}).score is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"weights": ["../../x"]}, "'weights.0' is not valid: it must match"),
        ({"weights": ["a/b"]}, "'weights.0' is not valid: it must match"),
        ({"weights": []}, "'weights' is not valid: it must have at least 1 entry"),
        ({"weights": ["a", "a"]}, "'weights' names a file twice"),
        ({"frames": {"voice": [10**9]}}, "'frames.voice.0' is not valid: it must be less"),
        ({"frames": {"voice": [4096, 4096]}}, "a frame of 'voice' has 16777216 numbers: too many"),
        ({"frames": {"voice": [0]}}, "'frames.voice.0' is not valid: it must be greater"),
        ({"frames": {"voice": []}}, "'frames.voice' is not valid: it must have at least 1 entry"),
        ({"frames": {"../x": [1]}}, "'frames.../x.[key]' is not valid: it must match"),
        ({"frames": {"other": [1]}}, "'frames' has a feature that 'made_from' has not"),
        ({"frames": {}}, "it has no frames of the feature 'voice'"),
        ({"outputs": {"logits": 10**9}}, "'outputs.logits' is not valid: it must be less"),
        ({"made_from": []}, "'made_from' is not valid: it must be a mapping"),
        (
            {"made_from": {}},
            "'made_from' is not valid: 'classes' is not valid: the value is missing",
        ),
        (
            {"made_from": VALUES["made_from"] | {"classes": ["sad", "sad"]}},
            "'made_from' is not valid: 'classes' is not valid: a name appears twice",
        ),
        ({"config": {}}, "its config: 'features' is not valid: the value is missing"),
        ({"config": {"architecture": 5}}, "its config: "),
        ({"config": VALUES["config"] | {"head": "none"}}, "its config: heads: the head 'none' is"),
        ({"config": VALUES["config"] | {"batch": "x"}}, "its config: 'batch' is not valid"),
        ({"seconds": -1}, "'seconds' is not valid: it must be greater than or equal to 0"),
    ],
)
def test_what_is_out_of_bounds_is_refused(tmp_path, changes, expected):
    assert damage(tmp_path, **changes).startswith(expected)


def test_a_head_is_stale_when_its_options_or_classes_changed_but_not_by_its_number_of_clips():
    entry = {"head": "mean_mlp", "features": ["voice"], "hidden": 8}
    recorded = json.loads(json.dumps(scaled(parse_head(entry), clips=500).spec()))
    assert recorded["lr"] == 1e-3
    record = HeadRecord.model_validate(
        VALUES | {"made_from": VALUES["made_from"] | {"config": recorded}}
    )
    for same in ({}, {"lr": 1e-3}, {"init": "w.safetensors"}):
        assert not is_stale(record, parse_head(entry | same), ("sad", "happy"))
    for changed in ({"hidden": 16}, {"lr": 1e-4}, {"loss": ["ce"]}, {"cross_fit": 2}):
        assert is_stale(record, parse_head(entry | changed), ("sad", "happy"))
    assert is_stale(record, parse_head(entry), ("happy", "sad"))
    unknown = HeadRecord.model_validate(VALUES)  # of an earlier version
    assert not is_stale(unknown, CONFIG, ("sad", "happy"))
