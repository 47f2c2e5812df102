"""A trained head read without torch: the learned weights of its layers."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from ser.corpus.errors import DamagedError
from ser.heads.record import HeadRecord
from ser.heads.saved import layer_weights


def write_head(run, weights, frames=None, features=("flat", "deep")):
    """Write the record of a head that reads two features, and the weights of its trainings."""
    folder = run / "heads" / "one"
    folder.mkdir(parents=True)
    for name, layers in weights.items():
        tensors = {"inputs.1.layer_weights": np.float32(layers), "x": np.ones(2)}
        save_file(tensors, folder / f"{name}.safetensors")
    HeadRecord(
        head="mean_mlp",
        fingerprint="f",
        made_from={"classes": ["a", "b"], "features": {"flat": "1", "deep": "2"}},
        config={"head": "mean_mlp", "features": list(features)},
        frames=frames or {"flat": [4], "deep": [3, 4]},
        outputs={"logits": 2},
        weights=list(weights),
        epochs=1,
        seconds=1.0,
    ).write(folder / "head.json")


def test_weights_are_the_softmax_averaged_over_the_folds(tmp_path):
    log = np.log
    write_head(tmp_path, {"a": [log(1), log(2), log(5)], "b": [log(2), log(2), log(4)]})
    assert layer_weights(tmp_path, "one") == {
        "deep": pytest.approx([(1 / 8 + 2 / 8) / 2, 2 / 8, (5 / 8 + 4 / 8) / 2])
    }


def test_free_weights_are_the_learned_numbers(tmp_path):
    uses = [{"name": "flat"}, {"name": "deep", "layer_sum": "free"}]
    write_head(tmp_path, {"a": [0.5, -1.0, 3.0], "b": [1.5, 0.0, 3.0]}, features=uses)
    assert layer_weights(tmp_path, "one") == {"deep": [1.0, -0.5, 3.0]}


def test_a_head_without_summed_layers_has_none(tmp_path):
    write_head(tmp_path, {"a": [0.0]}, frames={"flat": [4], "deep": [4]})
    assert layer_weights(tmp_path, "one") == {}
    assert layer_weights(tmp_path, "two") == {}


@pytest.mark.parametrize("features", [["flat", 3], ["flat", {"layer_sum": "free"}], []])
def test_features_that_are_no_list_of_features_are_named(tmp_path, features):
    write_head(tmp_path, {"a": [0.0, 0.0, 0.0]}, features=features)
    with pytest.raises(DamagedError, match=r"heads/one/head\.json: its config: 'features"):
        layer_weights(tmp_path, "one")


def test_a_damaged_file_is_named(tmp_path):
    write_head(tmp_path, {"a": [0.0, 0.0, 0.0]})
    (tmp_path / "heads/one/a.safetensors").write_bytes(b"no weights")
    with pytest.raises(
        DamagedError, match=r"heads/one/a\.safetensors: its layer weights are not readable"
    ):
        layer_weights(tmp_path, "one")
