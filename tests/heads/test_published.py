"""Published checkpoints: read without unpickling, converted, used."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from ser.corpus.errors import UserError
from ser.heads.architectures.cross_modal_gru import CrossModalGRU
from ser.heads.options import CrossModalGRUOptions
from ser.heads.published import import_published, yaml_entry
from ser.heads.run import train_heads
from tests.heads.factories import as_published, make_job, make_manifest, weights_by_rule

SHARED = os.environ.get("SER_SHARED")


def published(tag):
    about = json.loads((Path(SHARED) / "golden" / "heads.json").read_text())[tag]
    return about, weights_by_rule(next(v for v in about.values() if isinstance(v, dict)))


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
@pytest.mark.parametrize("tag", ["bimodal_wce", "bimodal_wce_sml", "trimodal_wce_sml"])
def test_a_state_dict_is_written_under_our_names(tmp_path, tag):
    about, state = published(tag)
    torch.save({"epoch": 3, "model_state_dict": state}, tmp_path / "best.pt")
    heads = dict(zip(("speech", "text", "prosody"), about["heads_of_attention"], strict=False))
    out = tmp_path / "w/best.safetensors"
    released = import_published([tmp_path / "best.pt"], "cross_modal_gru", out, heads)
    assert list(released.dims.values()) == about["dims"]
    written = load_file(out)
    assert set(written) == set(released.state)
    for name, values in released.state.items():
        assert torch.equal(written[name], values)


def tiny():
    options = CrossModalGRUOptions(hidden=8)
    return CrossModalGRU({"speech": 6, "text": 6}, {"logits": 3}, options)


def test_imported_weights_are_a_head_of_a_run(tmp_path):
    torch.save(as_published(tiny()), tmp_path / "best.pt")
    out = tmp_path / "best.safetensors"
    released = import_published([tmp_path / "best.pt"], "cross_modal_gru", out, {})
    assert (released.options, released.dims) == ({"hidden": 8}, {"speech": 6, "text": 6})
    assert (released.outputs, released.ignored) == ({"logits": 3}, ())
    given = {"head": "cross_modal_gru", "features": ["a", "b"], "init": str(out), "epochs": 0}
    (report,) = train_heads(make_job(tmp_path, one=given), ["one"])
    assert (report.done, report.epochs) == ("trained", 0)
    ours = load_file(tmp_path / "run/heads/one/head.safetensors")
    np.testing.assert_array_equal(
        ours["head.modalities.0.projection.weight"],
        load_file(out)["modalities.0.projection.weight"],
    )


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            Evil(),
            r"bad.pt: it holds more than tensors, or is not a PyTorch file, and is not unpickled",
        ),
        ({"other.weight": torch.zeros(2)}, r"bad.pt: these are not the weights of a published"),
        ([1, 2], r"bad.pt: these are not the weights of a published cross_modal_gru"),
    ],
)
def test_another_file_is_refused(tmp_path, capsys, content, message):
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(UserError, match=message):
        import_published([tmp_path / "bad.pt"], "cross_modal_gru", tmp_path / "o.safetensors", {})
    assert "unpickled" not in capsys.readouterr().out
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize("data", [b"", b"utterance,path\nu0,u0.wav\n", b"\x80\x02(."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, data):
    (tmp_path / "bad.pt").write_bytes(data)
    with pytest.raises(
        UserError, match=r"bad\.pt: it holds more than tensors, or is not a PyTorch"
    ):
        import_published([tmp_path / "bad.pt"], "cross_modal_gru", tmp_path / "o.safetensors", {})


def test_weights_of_another_head_are_refused_as_init(tmp_path):
    torch.save(as_published(tiny()), tmp_path / "best.pt")
    out = tmp_path / "best.safetensors"
    import_published([tmp_path / "best.pt"], "cross_modal_gru", out, {})
    given = {"head": "cross_modal_gru", "features": ["a", "b"], "init": str(out), "hidden": 16}
    (report,) = train_heads(make_job(tmp_path, one=given), ["one"])
    assert report.done == "failed"
    assert report.error.startswith(f"{out}: the weights are not of this head (")
    missing = {"features": ["a"], "init": str(tmp_path / "no.safetensors")}
    (report,) = train_heads(make_job(tmp_path, one=missing), ["one"])
    assert report.error == f"{tmp_path / 'no.safetensors'} does not exist; correct `init:`."


def parts_of_the_baseline():
    """Return the tensors of `final_pool.pt` and `final_ser.pt`, of 6 channels and 3 classes."""
    shapes = {"attention": [6, 1], "sap_linear.weight": [6, 6], "sap_linear.bias": [6]}
    pool = weights_by_rule(shapes)
    shapes = {"fc.0.0.weight": [8, 12], "fc.0.0.bias": [8], "fc.0.1.weight": [8]}
    shapes |= {"fc.0.1.bias": [8], "out.0.weight": [4, 8], "out.0.bias": [4], "spare": [2]}
    return pool, weights_by_rule(shapes)


def test_two_files_are_one_head_and_its_entry_is_given(tmp_path):
    files, out = [tmp_path / "final_pool.pt", tmp_path / "final_ser.pt"], tmp_path / "o.safetensors"
    for file, state in zip(files, parts_of_the_baseline(), strict=True):
        torch.save(state, file)
    released = import_published(files, "attentive_stats", out, {})
    assert (released.dims, released.outputs) == ({"speech": 6}, {"logits": 4})
    assert released.ignored == ["spare"]
    values = yaml.safe_load(yaml_entry(released, "attentive_stats", out))
    assert values == {
        "head": "attentive_stats",
        "features": [{"name": "speech"}],
        "hidden": 8,
        "loss": ["wce"],
        "init": str(out),
        "epochs": 0,
    }
    manifest = make_manifest(classes=("angry", "sad", "happy", "neutral"))
    (report,) = train_heads(make_job(tmp_path, manifest, one=values | {"features": ["a"]}), ["one"])
    assert report.done == "trained"
    assert torch.equal(
        load_file(tmp_path / "run/heads/one/head.safetensors")["head.outputs.logits.5.bias"],
        released.state["outputs.logits.5.bias"],
    )
