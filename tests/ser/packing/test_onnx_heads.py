"""The graph of a head computes what the head predicts, padded batches included."""

from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
import torch

from ser.corpus.errors import UserError
from ser.heads.config import parse_head
from ser.heads.inputs import Prepared
from ser.heads.saved import SavedHead
from ser.heads.testing import padded
from ser.packing import onnx_heads
from ser.packing.onnx_heads import HeadGraph, export_head, strided

LENGTHS = [[(7, 3), (1, 5), (4, 1), (12, 8)], [(1, 1)], [(3, 40)]]
OUTPUTS = {"logits": 4, "attributes": 3}
DIMS = {"voice": 6, "text": 4}


def a_head(name="mean_mlp", strides=(1, 1), dims=DIMS, outputs=OUTPUTS, **options):
    """Return two trainings of a head of two features, as `TrainedHead` has them."""
    uses = [{"name": n, "stride": stride} for n, stride in zip(dims, strides, strict=True)]
    config = parse_head({"head": name, "features": uses} | options)
    frames = {n: (dim,) for n, dim in dims.items()}
    torch.manual_seed(0)
    modules = [Prepared.build(config, frames, outputs).eval() for _ in range(2)]
    record = SimpleNamespace(frames=frames, outputs=outputs)
    saved = SavedHead(Path("heads/mine"), record, config)
    return SimpleNamespace(saved=saved, config=config, modules=modules)


def require_equal(head, path):
    """Compare the file with the modules: batches of other sizes, padded with other numbers."""
    session = onnxruntime.InferenceSession(path)
    assert [i.name for i in session.get_inputs()] == ["voice", "voice.mask", "text", "text.mask"]
    generator = torch.Generator().manual_seed(1)
    record = head.saved.record
    for lengths in LENGTHS:
        clips = [
            {
                n: torch.randn(k, *shape, generator=generator)
                for (n, shape), k in zip(record.frames.items(), pair, strict=True)
            }
            for pair in lengths
        ]
        with torch.inference_mode():
            expected = HeadGraph(head)(
                tuple(t for pair in padded(clips, 0, 0.0).values() for t in pair)
            )
        tensors = [t.numpy() for pair in padded(clips, 3, 1e3).values() for t in pair]
        inputs = {i.name: t for i, t in zip(session.get_inputs(), tensors, strict=True)}
        outputs = session.run(list(record.outputs), inputs)
        for value, other in zip(outputs, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(value), other, atol=1e-5, rtol=1e-4)


def test_a_stride_takes_the_means_of_real_frames():
    frames, mask = torch.arange(14.0).view(2, 7, 1), torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    means, real = strided(frames, mask, 3)
    expected = torch.tensor([[1.0, 4.0, 6.0], [8.0, 10.0, 0.0]])
    torch.testing.assert_close(means.squeeze(2), expected)
    assert real.tolist() == [[True, True, True], [True, True, False]]
    assert strided(frames, mask, 1)[0] is frames


def test_a_graph_predicts_as_its_head_does(tmp_path):
    head = a_head("mean_mlp", strides=(3, 1), hidden=8)
    export_head(head, tmp_path / "head.onnx", {"classes": '["a"]'})
    require_equal(head, tmp_path / "head.onnx")
    metadata = onnxruntime.InferenceSession(tmp_path / "head.onnx").get_modelmeta()
    assert metadata.custom_metadata_map == {"classes": '["a"]'}
    here = str(Path(onnx_heads.__file__).parent)
    assert here.encode() not in (tmp_path / "head.onnx").read_bytes()  # in a traceback


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("attentive_stats", {"hidden": 8, "standardize": True}),
        ("conv_pool", {"hidden": 8}),
        ("cross_modal_gru", {"hidden": 8}),
        ("deep_fusion", {"hidden": 8, "feed_forward": 8}),
        ("early_mha", {"hidden": 8, "attention_heads": 2, "attention": "full"}),
        ("early_mha", {"hidden": 8, "attention_heads": 2, "attention": "sub_vector"}),
        ("expert_lstm", {"hidden": 8}),
        ("linear_probe", {"quantiles": [0.1, 0.5]}),
        ("mdat", {"hidden": 8, "classifier": 8, "attention_heads": 2, "feed_forward": 8}),
        ("mean_mlp", {"hidden": 8, "deviation": True}),
        ("class_scores", {"dims": dict.fromkeys(DIMS, 4), "outputs": {"logits": 4}}),
    ],
)
def test_every_architecture_has_a_graph(name, options, tmp_path):
    head = a_head(name, **options)
    export_head(head, tmp_path / "head.onnx", {})
    require_equal(head, tmp_path / "head.onnx")


def test_a_head_that_needs_the_clips_of_a_speaker_has_none(tmp_path):
    head = a_head()
    uses = [use.model_copy(update={"normalize": "speaker"}) for use in head.config.features]
    head.config = head.config.model_copy(update={"features": tuple(uses)})
    with pytest.raises(UserError, match=r"^head 'mine': it reads voice with normalize: speaker"):
        export_head(head, tmp_path / "head.onnx", {})
    assert not list(Path(tmp_path).iterdir())


class ByLength(torch.nn.Module):
    """A module whose computation depends on how many frames a batch has."""

    outputs = OUTPUTS

    def forward(self, features):
        frames, _ = features["voice"]
        rows = [frames[:, i] for i in range(int(frames.shape[1]))]
        mean = sum(rows).mean(dim=1, keepdim=True)
        return {name: mean.expand(-1, width) for name, width in OUTPUTS.items()}


class ByValue(ByLength):
    """A module that looks at the numbers of a batch."""

    def forward(self, features):
        if float(features["voice"][0].sum()) > 0:
            return super().forward(features)
        return super().forward(features)


@pytest.mark.parametrize(
    ("module", "reason"),
    [(ByLength, "computes with the lengths of a batch"), (ByValue, "PyTorch cannot export it")],
)
def test_a_module_that_cannot_be_exported_is_one_sentence(module, reason, tmp_path, capfd):
    head = a_head()
    head.modules = [module().eval()]
    with pytest.raises(UserError, match=f"^head 'mine' .mean_mlp.: .*{reason}") as error:
        export_head(head, tmp_path / "head.onnx", {})
    assert "\n" not in str(error.value)
    assert not list(Path(tmp_path).iterdir())
    assert capfd.readouterr() == ("", "")
