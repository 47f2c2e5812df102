import pytest
import torch

from ser.corpus.errors import UserError
from ser.extract.testing import TEXTS, clip
from ser.finetune.adapting import depths, optimizer, parameter_groups
from tests.ser.finetune.factories import MODELS, batch, make_module

WAVES = [clip(0.5, 1), clip(0.4, 2)]


def inputs(model):
    return TEXTS[:2] if model in ("roberta", "t5") else WAVES


def a_step(module, model):
    """Take one step; return the names of the parameters that it changed."""
    config = module.config
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    groups = parameter_groups(config, module.encoder, module.head)
    adam = optimizer(config, groups)
    module.train()
    module({"ft": batch(module.encoder, inputs(model))})["logits"].square().sum().backward()
    adam.step()
    return {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_has_the_depth_of_its_block(model):
    encoder = make_module(model).encoder
    depth_by_name = depths(encoder.model, encoder.layers)
    assert set(depth_by_name.values()) == {0, 1, 2}
    if model == "whisper":
        assert depth_by_name["conv1.weight"] == depth_by_name["embed_positions.weight"] == 0
        assert depth_by_name["layers.0.fc1.weight"] == 1
        assert depth_by_name["layers.1.fc1.weight"] == depth_by_name["layer_norm.weight"] == 2


@pytest.mark.parametrize(
    ("model", "freeze", "kept"),
    [
        ("wavlm-layer", "feature_encoder", "feature_extractor."),
        ("whisper", "feature_encoder", ("conv1.", "conv2.", "embed_positions.")),
        (
            "hubert-layer",
            "embeddings",
            ("feature_", "masked_", "encoder.pos", "encoder.layer_norm"),
        ),
        ("roberta", "layers:1", ("embeddings.", "encoder.layer.0.")),
        ("wav2vec2-group", "all", ""),
    ],
)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_learns(model, freeze, kept):
    module = make_module(model, calm=True, freeze=freeze)
    prefix = kept if isinstance(kept, tuple) else (kept,)
    frozen = {
        f"encoder.model.{name}"
        for name, _ in module.encoder.model.named_parameters()
        if name.startswith(prefix)
    }
    changed = a_step(module, model)
    assert frozen and not changed & frozen
    # no use is made of a pooler, nor of what stands for masked frames when none are
    unused = ("encoder.model.pooler", "encoder.model.masked_spec_embed")
    everything = {name for name, _ in module.named_parameters() if not name.startswith(unused)}
    quiet = {n for n in everything - frozen - changed if not n.endswith("k_proj.bias")}
    assert quiet <= {n for n in everything if "embeddings" in n}  # words that were not said


def test_rates_by_layer():
    module = make_module("wavlm-layer", layer_decay=0.5, lr=1e-3, head_lr=4e-3, freeze=[])
    groups = parameter_groups(module.config, module.encoder, module.head)
    assert [group["scale"] for group in groups] == [0.25, 0.5, 1.0, 4.0]
    sizes = [sum(p.numel() for p in group["params"]) for group in groups]
    assert sum(sizes) == sum(p.numel() for p in module.parameters())
    block = module.encoder.model.encoder.layers[1]
    assert sizes[2] == sum(p.numel() for p in block.parameters())


def test_one_rate_is_one_group_and_the_head_another():
    module = make_module("whisper")
    groups = parameter_groups(module.config, module.encoder, module.head)
    assert [group["scale"] for group in groups] == [1.0, 1.0]


@pytest.mark.parametrize("model", ["wavlm-layer", "whisper", "roberta"])
def test_adapters_alone_are_trained_each_of_them_and_merging_changes_nothing(model, tmp_path):
    module = make_module(model, calm=True, lora={"rank": 2})
    names = dict(module.encoder.named_parameters())
    adapters = {f"encoder.{name}" for name in names if "lora_" in name}
    head = {name for name, _ in module.named_parameters() if name.startswith("head.")}
    changed = a_step(module, model)
    assert changed <= adapters | head
    # B is 0 at first, so that A has no slope until the second step
    assert {n for n in adapters if "lora_B" in n} <= changed
    assert {n for n in adapters if "lora_A" in n} <= a_step(module, model)
    module.eval()
    given = {"ft": batch(module.encoder, inputs(model))}
    before = module(given)["logits"]
    module.merge(tmp_path)
    assert not any("lora" in name for name, _ in module.named_parameters())
    torch.testing.assert_close(module(given)["logits"], before, atol=1e-5, rtol=0)
    assert (tmp_path / "adapter_model.safetensors").exists()


def test_adapters_in_the_upper_layers_of_what_is_named():
    module = make_module("whisper", lora={"targets": ["fc1"], "layers": 1})
    values = {n for n, _ in module.encoder.model.named_parameters() if "lora_A" in n}
    assert values == {"layers.1.fc1.lora_A.default.weight"}


def test_an_adapter_that_would_learn_nothing_is_refused():
    with pytest.raises(UserError, match=r"WavLM.* bypasses q_proj in its attention, so an"):
        make_module("wavlm-layer", lora={"targets": ["q_proj"]})
    with pytest.raises(
        UserError, match=r"lora\.targets: nothing match no linear layer of .*; its linear"
    ):
        make_module("whisper", lora={"targets": ["nothing"]})


def test_what_is_not_there_cannot_be_frozen():
    with pytest.raises(
        UserError, match=r"Wav2Vec2Bert-layer has no feature_encoder to freeze; correct"
    ):
        make_module("w2v-bert", freeze="feature_encoder")
    with pytest.raises(UserError, match=r"freeze: layers:3: the model has 2 layers; correct it\.$"):
        make_module("whisper", freeze="layers:3")
