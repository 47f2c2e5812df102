"""Published checkpoints: read without unpickling, converted, used."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ser.corpus.errors import UserError
from ser.heads.architectures.cross_modal_gru import CrossModalGRU, load_published
from ser.heads.options import CrossModalGRUOptions
from ser.heads.published import import_published
from ser.heads.run import train_heads
from tests.heads.factories import as_published, make_job, weights_by_rule

SHARED = os.environ.get("SER_SHARED")


def published(tag):
    about = json.loads((Path(SHARED) / "golden" / "heads.json").read_text())[tag]
    return about, weights_by_rule(next(v for v in about.values() if isinstance(v, dict)))


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
@pytest.mark.parametrize("tag", ["bimodal_wce", "bimodal_wce_sml", "trimodal_wce_sml"])
def test_a_state_dict_gives_the_published_logits(tmp_path, tag):
    about, state = published(tag)
    torch.save({"epoch": 3, "model_state_dict": state}, tmp_path / "best.pt")
    heads = dict(zip(("speech", "text", "prosody"), about["heads_of_attention"], strict=False))
    said = import_published(
        tmp_path / "best.pt", "cross_modal_gru", tmp_path / "w/best.safetensors", heads
    )
    assert list(said["dims"].values()) == about["dims"]
    options = CrossModalGRUOptions(hidden=said["hidden"], attention_heads=heads)
    ours, theirs = (CrossModalGRU(said["dims"], said["outputs"], options) for _ in range(2))
    ours.load_state_dict(load_file(tmp_path / "w/best.safetensors"))
    load_published(theirs, state)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def tiny():
    options = CrossModalGRUOptions(hidden=8)
    return CrossModalGRU({"speech": 6, "text": 6}, {"logits": 3}, options)


def test_imported_weights_are_a_head_of_a_run(tmp_path):
    torch.save(as_published(tiny()), tmp_path / "best.pt")
    out = tmp_path / "best.safetensors"
    assert import_published(tmp_path / "best.pt", "cross_modal_gru", out, {}) == {
        "head": "cross_modal_gru",
        "hidden": 8,
        "dims": {"speech": 6, "text": 6},
        "outputs": {"logits": 3},
    }
    given = {"features": ["a", "b"], "init": str(out), "epochs": 0}
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
        import_published(tmp_path / "bad.pt", "cross_modal_gru", tmp_path / "o.safetensors", {})
    assert "unpickled" not in capsys.readouterr().out
    assert not (tmp_path / "o.safetensors").exists()


def test_weights_of_another_head_are_refused_as_init(tmp_path):
    torch.save(as_published(tiny()), tmp_path / "best.pt")
    out = tmp_path / "best.safetensors"
    import_published(tmp_path / "best.pt", "cross_modal_gru", out, {})
    given = {"features": ["a", "b"], "init": str(out), "hidden": 16}
    (report,) = train_heads(make_job(tmp_path, one=given), ["one"])
    assert report.done == "failed"
    assert report.error.startswith(f"{out}: the weights are not of this head (")
    missing = {"features": ["a"], "init": str(tmp_path / "no.safetensors")}
    (report,) = train_heads(make_job(tmp_path, one=missing), ["one"])
    assert report.error == f"{tmp_path / 'no.safetensors'} does not exist; correct `init:`."
