import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE, Extractor
from ser.extract.kinds.speech_families import FAMILIES, PARTS
from ser.extract.registry import MODELS
from ser.extract.testing import ExtractorConformance, clip
from ser.synthetic.encoders import CNN, LAYER_NORM, PUBLISHED, TINY, encoder_class
from ser.synthetic.sizes import enlarged
from tests.extract.factories import made, new_folder
from tests.extract.tiny_encoders import tiny_encoder

OTHERS = {"wav2vec2", "hubert", "wavlm", "wav2vec2-conformer", "wav2vec2-bert"}  # test_speech.py
OTHERS |= {"emotion2vec", "dasheng", "spear"}  # test_emotion2vec.py, test_dasheng.py, test_spear.py


# run by the same code as another row
ALIKE = {"unispeech", "unispeech-sat", "sew", "canary", "glmasr", "qwen2_audio", "qwen3_omni_moe"}
ROWS = [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in TINY]


class TestEncoders(ExtractorConformance):
    row: str

    test_bad_clip_harms_no_neighbour = None  # type: ignore[assignment]  # of the loop, not a row

    @pytest.fixture(autouse=True, scope="class", params=ROWS)
    @classmethod
    def _row(cls, request: Any) -> None:
        cls.row, cls.layered = request.param, request.param != "clap"

    @pytest.mark.slow
    def test_very_long_input_works_or_explains_why_not(self) -> None:
        super().test_very_long_input_works_or_explains_why_not()

    def make(self, **options: Any) -> Extractor:
        return made("speech", tiny_encoder(self.row), **options)


def test_every_row_is_tested_and_every_model_has_a_row() -> None:
    tested = OTHERS | {PARTS[name].model_type if name in PARTS else name for name in TINY}
    assert tested == set(FAMILIES)
    assert {card.encoder for card in MODELS.values()} == {"", *FAMILIES}
    assert {part.model_type for part in PARTS.values()} <= set(FAMILIES)


@pytest.mark.parametrize("name", [name for name in TINY if name in PARTS])
def test_encoder_has_the_tensors_of_its_model(name: str) -> None:
    from safetensors.torch import load_file

    published = load_file(tiny_encoder(name) / "model.safetensors")
    model = made("speech", tiny_encoder(name)).encoder.model  # type: ignore[attr-defined]
    prefix = PUBLISHED.get(name, PARTS[name].tensors)
    for key, tensor in model.state_dict().items():
        assert tensor.equal(published[f"{prefix}.{key}"])


def direct(name: str, wave: np.ndarray) -> np.ndarray:
    """Run transformers' own feature extractor and encoder on a clip, as its documentation does."""
    import torch
    import transformers

    folder = tiny_encoder(name)
    encoder = made("speech", folder).encoder.model  # type: ignore[attr-defined]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    options = {"sampling_rate": SAMPLE_RATE, "return_tensors": "pt"}
    if name in ("voxtral", "qwen2_audio", "audioflamingo3", "qwen3_asr"):
        options["return_attention_mask"] = True
    given = extractor(wave, **options)
    if name == "audioflamingo3":
        given["input_features_mask"] = given.pop("attention_mask")
    if name == "qwen3_asr":
        given["input_features_mask"] = given.pop("attention_mask")
    if name in ("voxtral", "qwen2_audio"):
        del given["attention_mask"]
    with torch.inference_mode():
        return encoder(**given).last_hidden_state[0].numpy()


@pytest.mark.parametrize(
    "name",
    [
        "data2vec-audio",
        "omniasr_ctc",
        "moonshine",
        "seamless_m4t_v2",
        "parakeet_ctc",
        "canary",
        "voxtral",
        "qwen2_audio",
        "audioflamingo3",
    ],
)
def test_frames_are_those_of_transformers(name: str) -> None:
    wave = clip(1.3)
    (frames,) = made("speech", tiny_encoder(name)).extract([wave])
    np.testing.assert_allclose(frames, direct(name, wave)[: len(frames)], atol=1e-5)


def test_qwen3_asr_is_transformers_own_in_whole_seconds() -> None:
    import torch
    import transformers

    folder, wave = tiny_encoder("qwen3_asr"), clip(10.3)  # over a block of 8 s
    encoder = made("speech", folder).encoder.model  # type: ignore[attr-defined]
    given = transformers.AutoFeatureExtractor.from_pretrained(folder)(
        wave, sampling_rate=SAMPLE_RATE, padding=True, return_attention_mask=True
    )
    with torch.inference_mode():
        expected = encoder(given["input_features"], given["attention_mask"]).last_hidden_state
    (frames,) = made("speech", folder).extract([wave])
    (in_blocks,) = made("speech", folder, chunk=8.0, overlap=0.0).extract([wave])
    np.testing.assert_allclose(frames, expected, atol=1e-5)
    np.testing.assert_allclose(in_blocks, frames, atol=1e-5)
    assert len(frames) == 13 * 10 + 4


def test_ast_averages_the_patches_of_one_time() -> None:
    import torch
    import transformers

    folder, wave = tiny_encoder("audio-spectrogram-transformer"), clip(1.0)
    given = transformers.AutoFeatureExtractor.from_pretrained(folder)(
        wave, sampling_rate=SAMPLE_RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        states = transformers.ASTModel.from_pretrained(folder).eval()(**given).last_hidden_state
    patches = states[0, 2:].view(12, 101, 16)  # bands, times
    (frames,) = made("speech", folder).extract([wave])
    np.testing.assert_allclose(frames, patches.mean(0)[:10], atol=1e-5)


def test_clap_averages_to_the_vector_of_its_window() -> None:
    import torch
    import transformers

    folder, wave = tiny_encoder("clap"), clip(10.0)
    encoder = made("speech", folder).encoder
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    import soxr

    given = extractor(
        soxr.resample(wave, SAMPLE_RATE, 48_000), sampling_rate=48_000, return_tensors="pt"
    )
    with torch.inference_mode():
        pooled = encoder.model(given["input_features"]).pooler_output[0]  # type: ignore[attr-defined]
    (frames,) = made("speech", folder).extract([wave])
    assert len(frames) == 32
    np.testing.assert_allclose(frames.mean(0), pooled, atol=1e-5)


def test_granite_reads_pairs_of_rows_scaled_by_the_loudest() -> None:
    from ser.extract.kinds.speech_inputs import granite_mels

    wave = clip(0.5)
    rows = granite_mels(wave)
    assert rows.shape == (25, 160)  # 51 rows of 10 ms: the last has no partner
    assert rows.max() - rows.min() <= 2.0
    np.testing.assert_allclose(granite_mels(10 * wave), rows + 0.5, atol=1e-5)  # 20 dB, over 4


def test_lower_layers_have_the_rate_of_the_last() -> None:
    for name in ("qwen2_audio", "sew-d"):
        (frames,) = made("speech", tiny_encoder(name), layer="all").extract([clip(1.0)])
        assert frames.shape == (25 if name == "qwen2_audio" else 48, 3, 16)
    below = frames[:, :-1]
    np.testing.assert_array_equal(below[::2], below[1::2])  # SEW's, repeated


@pytest.mark.parametrize("name", ["voxtral", "parakeet_ctc", "moonshine", "clap"])
def test_saved_encoder_gives_the_same_frames(name: str, tmp_path: Path) -> None:
    before = made("speech", tiny_encoder(name))
    before.encoder.save(tmp_path)  # type: ignore[attr-defined]
    (expected,) = before.extract([clip(0.7)])
    (frames,) = made("speech", tmp_path).extract([clip(0.7)])
    np.testing.assert_array_equal(frames, expected)


def test_weights_without_the_encoder_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_encoder("voxtral"), tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({"model.other": tensors.popitem()[1]}, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as raised:
        made("speech", tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}: its weights lack conv1.bias and ")


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("parakeet_ctc", ("encoder_config", "subsampling_factor"), 4),
        ("voxtral", ("audio_config",), None),
        ("canary", ("model_type",), "llama"),
    ],
)
def test_other_shapes_are_refused(
    name: str, keys: tuple[str, ...], value: object, tmp_path: Path
) -> None:
    shutil.copytree(tiny_encoder(name), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    place = config
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"is not of kind speech; docs/extract\.md lists those"):
        made("speech", tmp_path)


def test_classes_of_parts_are_transformers_own() -> None:
    for name in PARTS:
        assert encoder_class(name).__module__.startswith("transformers.models.")


def test_posteriors_are_log_probabilities_of_tokens() -> None:
    import torch
    import transformers

    folder, wave = tiny_ctc(), clip(1.1)
    (frames,) = made("speech", folder, posteriors=True).extract([wave])
    given = transformers.AutoFeatureExtractor.from_pretrained(folder)(
        wave, sampling_rate=SAMPLE_RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = transformers.AutoModelForCTC.from_pretrained(folder).eval()(**given).logits[0]
    assert frames.shape == (54, 7)
    np.testing.assert_allclose(frames, logits.log_softmax(-1), atol=1e-5)


def test_posteriors_of_a_model_without_tokens() -> None:
    with pytest.raises(UserError, match=r": a moonshine model cannot have a CTC head\.$"):
        made("speech", tiny_encoder("moonshine"), posteriors=True)


@cache
def tiny_ctc() -> Path:
    import transformers

    folder = new_folder("ctc")
    config = transformers.Wav2Vec2Config(**CNN, **LAYER_NORM, vocab_size=7)
    enlarged(transformers.Wav2Vec2ForCTC(config)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder
