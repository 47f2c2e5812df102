"""Training options by the size of a corpus."""

import pytest

from ser.heads.config import parse_head
from ser.heads.scaling import scaled


def config(**entry):
    return parse_head({"features": ["a"]} | entry)


@pytest.mark.parametrize(
    ("clips", "lr", "lr_min", "mixup"),
    [
        (1, 1e-3, 1e-5, 1.0),
        (2_000, 1e-3, 1e-5, 1.0),
        (2_010, 9.9e-4, 1e-5, 1.0),  # no jump
        (8_000, 1.5e-4, 3.9e-6, 0.59),
        (20_000, 4.4e-5, 2.1e-6, 0.32),
        (59_900, 1e-5, 1e-6, 0.0),
    ],
)
def test_options_that_are_not_given_follow_the_size(clips, lr, lr_min, mixup):
    options = scaled(config(), clips)
    assert (options.lr, options.lr_min, options.augment.mixup) == (lr, lr_min, mixup)
    assert options.epochs == 30


def test_the_published_options_stay_where_they_were_published_for():
    assert scaled(config(), 60_000) == config()


def test_a_key_of_the_entry_stays_as_it_is():
    given = {"epochs": 5, "lr": 1e-5, "lr_min": 1e-6, "loss": ["wce"], "augment": {"mixup": 0.0}}
    assert scaled(config(**given), 100) == config(**given)


def test_scaling_twice_is_scaling_once():
    once = scaled(config(), 100)
    assert scaled(once, 100_000) == once


def test_the_record_of_a_scaled_head_reads_back_as_the_same_head():
    once = scaled(config(), 100)
    dump = once.model_dump(mode="json", exclude={"architecture"})
    assert scaled(parse_head(dump), 100_000) == once


def test_given_weights_and_scores_that_are_ready_keep_the_published_options(tmp_path):
    path = tmp_path / "head.safetensors"
    path.touch()
    for entry in (config(init=str(path)), config(head="class_scores")):
        assert scaled(entry, 100) == entry


def test_mixup_is_for_heads_that_learn_classes():
    ratings = scaled(config(loss=["ccc"]), 100)
    assert (ratings.augment.mixup, ratings.lr) == (0.0, 1e-3)
