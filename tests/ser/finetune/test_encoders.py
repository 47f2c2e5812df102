import json
import shutil

import numpy as np
import pytest
import torch

from ser.corpus.errors import UserError
from ser.extract.extractor import EXTRACTORS, parse_options
from ser.extract.models import resolve
from ser.extract.testing import TEXTS, clip
from ser.finetune.config import parse_finetune
from ser.finetune.module import FineTuned
from tests.extract.factories import ctranslate2_whisper
from tests.ser.finetune.factories import MODELS, batch, entry, make_module

SAID = {model: [TEXTS[0], "", TEXTS[1]] for model in ("roberta", "t5")}
WAVES = [clip(0.61, 1), clip(0.31, 2), clip(0.9, 3), clip(0.31, 4)]


def spoken(model):
    return SAID.get(model, WAVES)


def extracted(config, folder, inputs):
    options = parse_options(config.as_feature(str(folder)))
    extractor = EXTRACTORS.get(config.kind)(options, resolve(str(folder)))
    extractor.load("cpu")
    return [extractor.extract([each])[0] for each in inputs]


@pytest.mark.parametrize("layer", [-1, "mean:-2:", "all"])
@pytest.mark.parametrize("model", MODELS)
def test_frames_are_those_that_extract_gives_of_the_saved_model(tmp_path, model, layer):
    module = make_module(model, layer=layer).eval()
    with torch.no_grad():
        for parameter in module.encoder.parameters():  # as training would
            parameter.add_(0.01 * torch.randn_like(parameter))
        frames, mask = module.encoder(*batch(module.encoder, spoken(model)))
    module.encoder.save(tmp_path)
    found = extracted(module.config, tmp_path, spoken(model))
    for row, real, expected in zip(frames, mask, found, strict=True):
        assert int(real.sum()) == len(expected)
        np.testing.assert_allclose(row[real].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_a_clip_alone_is_what_it_is_in_a_batch_in_training_too(model):
    module = make_module(model, calm=True).train()
    given = batch(module.encoder, spoken(model))
    together = module({"ft": given})["logits"]
    alone = [module({"ft": batch(module.encoder, [each])})["logits"][0] for each in spoken(model)]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=0)


def test_randomness_depends_only_on_the_seed_of_pytorch():
    module = make_module("wavlm-layer").train()
    given = batch(module.encoder, WAVES)

    def said(seed):
        torch.manual_seed(seed)
        return module({"ft": given})["logits"]

    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(said(1), said(1))
    assert not torch.equal(said(1), said(2))
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_a_clip_that_is_shorter_than_a_masked_span_is_not_masked():
    module = make_module("wavlm-layer").train()
    module.encoder.model.config.mask_time_prob = 0.5
    logits = module({"ft": batch(module.encoder, [clip(0.1)])})["logits"]  # 4 frames, spans of 10
    assert torch.isfinite(logits).all()


def test_an_activation_computed_again_is_the_same():
    plain, again = (make_module("whisper", checkpointing=c).train() for c in (False, True))
    assert all(layer.gradient_checkpointing for layer in again.encoder.model.layers)
    for module in (plain, again):
        torch.manual_seed(3)
        module({"ft": batch(module.encoder, WAVES)})["logits"].square().sum().backward()
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)


def test_words_are_not_transcribed_by_an_encoder_alone(tmp_path):
    make_module("whisper-ctranslate2").encoder.save(tmp_path)
    options = parse_options({"kind": "asr", "model": str(tmp_path)})
    with pytest.raises(UserError) as raised:
        EXTRACTORS.get("asr")(options, resolve(str(tmp_path))).load("cpu")
    assert str(raised.value) == (
        f"{tmp_path}: this Whisper has no decoder, as it was fine-tuned from CTranslate2 weights; "
        "use the original model for kind asr."
    )


@pytest.mark.parametrize(
    ("dtype", "layer", "problem"),
    [
        ("int8", -1, "model.bin is quantized; use weights of float16 or float32"),
        (None, 9, "layer 9: the model has states 0 to 2"),
    ],
)
def test_what_cannot_be_trained_is_named(dtype, layer, problem):
    model = {"model": str(ctranslate2_whisper(dtype)), "layer": layer}
    config = parse_finetune("ft", entry("whisper") | model)
    with pytest.raises(UserError) as raised:
        FineTuned.build("ft", config, resolve(config.model), {"logits": 3})
    assert str(raised.value) == f"finetune.ft: {problem}."


def test_layers_that_are_chosen_among_are_not_dropped(tmp_path):
    shutil.copytree(MODELS["wavlm-layer"][1](), tmp_path / "m")
    document = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(document | {"layerdrop": 0.9}))
    config = parse_finetune(
        "ft", entry("wavlm-layer", layer="all") | {"model": str(tmp_path / "m")}
    )
    encoder = FineTuned.build("ft", config, resolve(config.model), {"logits": 3}).encoder.train()
    for _ in range(8):
        frames, _ = encoder(*batch(encoder, WAVES[:1]))
        assert frames.shape[2] == encoder.layers + 1
