from typing import Any

import numpy as np
import pytest

from corpus.errors import UserError
from extract.extractor import Extractor
from extract.testing import ExtractorConformance, clip
from tests.extract.factories import made, tiny_speech, tiny_whisper


class TestWav2Vec2Layer(ExtractorConformance):
    family, norm = "Wav2Vec2", "layer"

    def make(self, **options: Any) -> Extractor:
        return made("speech", tiny_speech(self.family, self.norm), **options)


class TestWav2Vec2Group(TestWav2Vec2Layer):
    norm, mixed = "group", False


class TestHubertLayer(TestWav2Vec2Layer):
    family = "Hubert"


class TestHubertGroup(TestWav2Vec2Group):
    family = "Hubert"


class TestWavLMLayer(TestWav2Vec2Layer):
    family = "WavLM"


class TestWavLMGroup(TestWav2Vec2Group):
    family = "WavLM"


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("family", ["Wav2Vec2", "Hubert", "WavLM"])
def test_last_layer_is_the_models_last_hidden_state(family: str, norm: str) -> None:
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    folder = tiny_speech(family, norm)
    wave = clip(1.3)
    inputs = AutoFeatureExtractor.from_pretrained(folder)(
        wave, sampling_rate=16_000, return_tensors="pt"
    )
    with torch.inference_mode():
        model = AutoModel.from_pretrained(folder).eval()
        expected = model(inputs["input_values"]).last_hidden_state[0].numpy()
    (last,) = made("speech", folder).extract([wave])
    (every,) = made("speech", folder, layer="all").extract([wave])
    assert every.shape == (len(expected), 2 + 1, 32)
    np.testing.assert_allclose(last, expected, atol=1e-5)
    np.testing.assert_allclose(every[:, -1], expected, atol=1e-5)


def test_group_norm_models_batch_equal_lengths_only() -> None:
    layer, group = (made("speech", tiny_speech("WavLM", norm)) for norm in ("layer", "group"))
    assert layer.batch_key(16_000) == layer.batch_key(16_001)
    assert group.batch_key(16_000) == 16_000 != group.batch_key(16_001)


def test_clip_under_one_frame_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"^399 samples are fewer than one frame needs \(400\)$"):
        made("speech", tiny_speech("Hubert", "layer")).extract([np.ones(399, np.float32)])


def test_whisper_is_not_of_kind_speech() -> None:
    folder = tiny_whisper()
    with pytest.raises(UserError) as raised:
        made("speech", folder)
    assert str(raised.value) == (
        f"{folder}: a whisper model is not of kind speech, which takes wav2vec 2.0, HuBERT and "
        "WavLM."
    )
