"""The entry of one head."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from ser.corpus.errors import UserError
from ser.heads.config import parse_head, valid_keys


def test_short_forms_and_defaults():
    config = parse_head({"features": ["a", {"name": "b", "stride": 4}], "hidden": 32})
    assert [(use.name, use.stride) for use in config.features] == [("a", 1), ("b", 4)]
    assert [(loss.name, loss.weight) for loss in config.loss] == [("wce", 1.0)]
    assert config.architecture.hidden == 32
    assert (config.views, config.augmented) == ((), 0.5)
    assert (config.epochs, config.lr, config.batch, config.weight_decay) == (30, 1e-5, 64, 1e-6)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"features": []}, "at least 1 item"),
        ({"features": ["a", "a"]}, "a feature is named twice"),
        (
            {"features": ["a"], "loss": ["focall"]},
            "the loss 'focall' is unknown; did you mean 'focal'?",
        ),
        ({"features": ["a"], "loss": [{"weight": 2}]}, "a loss has no `name`"),
        ({"features": ["a"], "loss": [{"name": "wce", "gamma": 2}]}, "Extra inputs"),
        ({"features": ["a"], "loss": [{"name": "focal", "gamma": -1}]}, "greater than or equal"),
        ({"features": ["a"], "loss": [{"name": "vs", "tau": float("inf")}]}, "a finite number"),
        (
            {"features": ["a"], "loss": [{"name": "label_smoothing", "smoothing": 1}]},
            "less than 1",
        ),
        (
            {"features": ["a"], "sampler": "balanced"},
            "'balanced' is unknown; did you mean 'class_balanced'?",
        ),
        ({"features": ["a"], "views": ["noise", "noise"]}, "views: noise, noise: a view is named"),
        ({"features": ["a"], "augmented": 1.01}, "less than or equal to 1"),
        ({"features": ["a"], "augmented": float("nan")}, "should be a finite number"),
        ({"features": ["a"], "dropout": 1.0}, "less than 1"),
        ({"features": ["a"], "epoch": 3}, "Extra inputs"),
        (
            {"features": ["a"], "epochs": 0},
            "nothing is trained in 0 epochs; give more, or weights with `init`",
        ),
        ({"features": ["a"], "loss": ["sml"]}, "none of them trains classes or attributes"),
        ({"features": ["a"], "best_by": "ccc"}, "ccc needs a loss that trains attributes"),
        (
            {"features": ["a"], "loss": ["ccc"], "best_by": "uar"},
            "uar needs a loss that trains log",
        ),
        ({"features": ["a"], "cross_fit": 1}, "greater than or equal to 2"),
        (
            {"features": ["a"], "sampler": {"name": "undersample", "no_consensus": 0.1}},
            "its no_consensus needs `no_consensus: keep` beside it",
        ),
        (
            {"head": "mdat", "features": ["a"], "steps": {"b": 4}},
            "steps: b is not one of the features of the head",
        ),
        (
            {"head": "mdat", "features": [{"name": "a", "stride": 2}], "steps": {"a": 4}},
            "a is in `steps:`, so its frames are whole numbers",
        ),
        (
            {"features": ["a"], "sampler": {"name": "undersample", "weights": "to_uniform"}},
            "Extra inputs",
        ),
    ],
)
def test_mistakes_are_reported(entry, message):
    with pytest.raises(ValidationError, match=message):
        parse_head(entry)


def test_moving_weights_of_a_sampler_are_in_what_is_recorded_and_read_back():
    moving = {"name": "class_balanced", "weights": "to_distribution"}
    config = parse_head({"features": ["a"], "sampler": moving})
    assert config.model_dump(exclude_defaults=True)["sampler"] == moving
    recorded = config.model_dump(mode="json")
    again = parse_head({k: v for k, v in recorded.items() if k != "architecture"})
    assert again.sampler == config.sampler
    plain = parse_head({"features": ["a"], "sampler": "class_balanced"})
    assert plain.model_dump(exclude_defaults=True)["sampler"] == {"name": "class_balanced"}


def test_a_loss_has_its_own_options_and_others_do_not_have_them():
    loss = ["wce", "sml", "soft_f1", {"name": "focal", "weight": 0.5, "gamma": 1}]
    loss += ["ce", "label_smoothing", "vs"]
    assert parse_head({"features": ["a"], "loss": loss}).model_dump(mode="json")["loss"] == [
        {"name": "wce", "weight": 1.0},
        {"name": "sml", "weight": 1.0},
        {"name": "soft_f1", "weight": 1.0},
        {"name": "focal", "weight": 0.5, "gamma": 1.0, "class_weight_power": 0.0},
        {"name": "ce", "weight": 1.0, "class_weight_power": 0.0},
        {
            "name": "label_smoothing",
            "weight": 1.0,
            "smoothing": 0.1,
            "class_weight_power": 0.0,
        },
        {"name": "vs", "weight": 1.0, "gamma": 0.3, "tau": 1.0, "class_weight_power": 0.0},
    ]


def test_an_unknown_architecture_is_named():
    with pytest.raises(UserError) as error:
        parse_head({"head": "cross_model_gru", "features": ["a"]})
    assert str(error.value) == (
        "heads: the head 'cross_model_gru' is unknown; did you mean 'cross_modal_gru'?"
    )


def test_valid_keys_include_the_architecture():
    assert {"features", "views", "augmented", "hidden", "attention_heads"} <= set(valid_keys({}))


def test_it_needs_no_torch():
    code = "import ser.heads.config, ser.heads.run, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_phase_changes_what_it_names_and_no_more():
    phases = [{"epochs": 3}, {"epochs": 2, "sampler": "undersample", "loss": ["soft_ce"]}]
    config = parse_head({"features": ["a"], "lr": 0.5, "phases": phases})
    one, two = config.stages
    assert (one.epochs, one.sampler.name, one.lr) == (3, "natural", 0.5)
    assert (two.epochs, two.sampler.name, two.loss[0].name) == (2, "undersample", "soft_ce")
    assert config.reads == {"classes", "votes"}
    assert parse_head({"features": ["a"]}).stages == [parse_head({"features": ["a"]})]


def test_losses_determine_targets_outputs_and_metric():
    config = parse_head({"features": ["a"], "loss": ["wce", "sml", "ccc", "gender"]})
    assert config.reads == {"classes", "attributes", "gender"}
    assert config.gives == {"logits", "neutral_logit", "attributes", "gender"}
    assert config.chosen_by == "macro_f1"
    assert parse_head({"features": ["a"], "loss": ["mse"]}).chosen_by == "ccc"
    assert parse_head({"features": ["a"], "best_by": "loss"}).chosen_by == "loss"


def test_short_forms_are_the_long_ones():
    short = parse_head({"features": ["a"], "sampler": "undersample", "cross_fit": 4})
    long = {"features": [{"name": "a"}], "sampler": {"name": "undersample"}}
    assert short == parse_head(long | {"cross_fit": {"folds": 4, "final": "mean"}})


@pytest.mark.parametrize(
    ("key", "value"), [("epochs", 5), ("lr", 0.1), ("init", "head.safetensors"), ("ema", 0.9)]
)
def test_a_solved_head_has_no_keys_of_training(key, value):
    with pytest.raises(ValidationError, match=f"{key}: the head linear_probe is solved"):
        parse_head({"head": "linear_probe", "features": ["a"], key: value})
