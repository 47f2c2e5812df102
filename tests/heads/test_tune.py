"""The search: it goes on where it was, and never looks at test."""

import polars as pl
import pytest
import yaml

from ser.corpus.errors import UserError
from ser.heads.config import parse_head
from ser.heads.tune import changed, tune
from tests.heads.factories import make_feature, make_manifest

ENTRY = {"head": "mean_mlp", "features": ["a"], "hidden": 4, "epochs": 3, "batch": 8}
SPACE = {
    "lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "hidden": [4, 8],
    "augment.mixup": {"low": 0.0, "high": 0.5},
}


def search(root, trials, space=SPACE, manifest=None):
    manifest = manifest or make_manifest()
    cache = {"a": make_feature(root, "a", manifest)}
    return tune(root / "tune", ENTRY, space, (cache, manifest), trials=trials)


def test_it_searches_resumes_and_writes_its_results(tmp_path):
    search(tmp_path, 3)
    first = pl.read_csv(tmp_path / "tune/trials.csv")
    best = search(tmp_path, 6)
    table = pl.read_csv(tmp_path / "tune/trials.csv")
    assert (first.height, table.height) == (3, 6)
    assert table["lr"].n_unique() == 6
    assert best == yaml.safe_load((tmp_path / "tune/best.yaml").read_text())
    assert best["lr"] == table["lr"][0]
    assert parse_head(best).augment.mixup == table["augment.mixup"][0]
    assert table["score"][0] == table["score"].max()


@pytest.mark.parametrize("text", ["damaged\n", "{}\n", "[1]\n"])
def test_a_damaged_study_is_one_sentence(tmp_path, text):
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "study.log").write_text(text)
    with pytest.raises(UserError) as error:
        search(tmp_path, 1)
    assert str(error.value).startswith(f"{tmp_path}/tune/study.log: it is damaged (")
    assert str(error.value).endswith("); delete it to begin the search again.")


def test_without_a_finished_trial_there_is_no_best_one(tmp_path):
    with pytest.raises(UserError) as error:
        search(tmp_path, 0)
    assert str(error.value) == (
        f"{tmp_path}/tune/study.log: none of its 0 trials was finished; give more with --trials."
    )


def test_dotted_keys_reach_into_an_entry():
    entry = {"features": [{"name": "a"}, {"name": "b"}]}
    assert changed(entry, {"features.1.stride": 4, "votes.dropout": 0.2}) == {
        "features": [{"name": "a"}, {"name": "b", "stride": 4}],
        "votes": {"dropout": 0.2},
    }
    assert entry == {"features": [{"name": "a"}, {"name": "b"}]}


def test_an_invalid_space_and_a_corpus_without_dev_are_reported(tmp_path):
    with pytest.raises(
        UserError, match=r"^lr: a choice is a list of values, or \{low: …, high: …\}"
    ):
        search(tmp_path, 1, {"lr": {"from": 1}})
    manifest = make_manifest()
    only = type(manifest)(manifest.frame.filter(pl.col("split") == "train"), manifest.classes)
    with pytest.raises(UserError, match="it has no dev split to compare trials on"):
        search(tmp_path / "b", 1, manifest=only)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lr": 5}, "lr: a choice is a list of values, or {low: …, high: …} with `log` or `step` "),
        ({"lr": []}, "lr: a choice is a list of values"),
        (
            {"lr": {"low": "a", "high": 3}},
            "lr: {'low': 'a', 'high': 3} is not a valid choice ",
        ),
        (
            {"lr": {"low": 3, "high": 1}},
            "lr: {'low': 3, 'high': 1} is not a valid choice ",
        ),
        ({"lr": {"low": 0.0, "high": 1.0, "log": True}}, "lr: {'low': 0.0, 'high': 1.0, 'log': Tr"),
        (
            {"hidden": [4, 0]},
            "hidden: the head cannot have 0 (it must be greater than or equal",
        ),
        ({"nope": [1]}, "nope: the head cannot have 1 (there is no such key); correct "),
        (
            {"features.9.stride": [1]},
            "features.9.stride: [1] is not a valid choice ",
        ),
        ({"hidden.x": [1]}, "hidden.x: [1] is not a valid choice "),
        ({"head": ["no_such"]}, "heads: the head 'no_such' is unknown; "),
    ],
)
def test_a_space_that_the_head_cannot_search_is_reported_in_one_sentence(tmp_path, space, message):
    with pytest.raises(UserError) as error:
        search(tmp_path, 1, space)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "tune").exists()
