import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE, Extractor
from ser.extract.kinds.speaker_models import window_starts
from ser.extract.models import resolve
from ser.extract.testing import ExtractorConformance, clip
from ser.synthetic.encoders import CNN, LAYER_NORM
from ser.synthetic.sizes import enlarged
from tests.extract.factories import made, new_folder, tiny_speech


@cache
def tiny_xvectors() -> Path:
    import transformers

    sizes = {"tdnn_dim": (8,) * 5, "xvector_output_dim": 12}
    config = transformers.WavLMConfig(**CNN, **LAYER_NORM, **sizes, use_weighted_layer_sum=True)
    folder = new_folder("x-vectors")
    enlarged(transformers.WavLMForXVector(config)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@cache
def random_dvectors() -> Path:
    import torch

    from ser.extract.kinds.speaker_models import DVectors

    torch.manual_seed(0)
    folder = new_folder("d-vectors")
    other = {"similarity_weight": torch.ones(1)}  # of its training
    torch.save({"model_state": DVectors().state_dict() | other}, folder / "pretrained.pt")
    return folder


class TestXVectors(ExtractorConformance):
    layered = False

    def make(self, **options: Any) -> Extractor:
        return made("speaker", tiny_xvectors(), **options)


class TestDVectors(ExtractorConformance):
    layered = False

    def make(self, **options: Any) -> Extractor:
        return made("speaker", random_dvectors(), **options)


def test_x_vector_is_transformers_own_at_length_1() -> None:
    import torch
    import transformers

    wave = clip(1.2)
    given = transformers.AutoFeatureExtractor.from_pretrained(tiny_xvectors())(
        wave, sampling_rate=SAMPLE_RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        model = transformers.WavLMForXVector.from_pretrained(tiny_xvectors()).eval()
        expected = model(given["input_values"]).embeddings[0].numpy()
    (vector,) = made("speaker", tiny_xvectors()).extract([wave])
    assert vector.shape == (1, 12)
    np.testing.assert_allclose(vector[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_clip_too_short_for_an_x_vector() -> None:
    with pytest.raises(ValueError, match=r"^15 frames are fewer than an x-vector needs \(16\)$"):
        made("speaker", tiny_xvectors()).extract([clip(0.32)])


def test_model_without_x_vectors() -> None:
    folder = tiny_speech("Hubert", "layer")
    with pytest.raises(UserError, match=r": a hubert model cannot have an x-vector head\.$"):
        made("speaker", folder)


def test_other_weights_than_resemblyzers(tmp_path: Path) -> None:
    (tmp_path / "pretrained.pt").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"pretrained\.pt: these are not Resemblyzer's weights\.$"):
        made("speaker", tmp_path)


def test_stray_weights_beside_a_config_are_no_part_of_the_model(tmp_path: Path) -> None:
    shutil.copytree(tiny_xvectors(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "pretrained.pt").write_bytes(b"a checkpoint")
    assert resolve(str(tmp_path)).digest == resolve(str(tiny_xvectors())).digest
    (vector,), (expected,) = (
        made("speaker", folder).extract([clip(1.0)]) for folder in (tmp_path, tiny_xvectors())
    )
    np.testing.assert_array_equal(vector, expected)


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(0.5, [0]), (1.6, [0]), (1.96, [0]), (1.98, [0, 77]), (3.9, [0, 77, 154, 231])],
)
def test_windows_begin_every_77_rows_and_the_last_is_three_quarters_full(
    seconds: float, starts: list[int]
) -> None:
    assert window_starts(round(seconds * SAMPLE_RATE)) == starts


def test_clips_softer_than_30_db_below_full_scale_are_amplified() -> None:
    model: Any = made("speaker", random_dvectors())
    loud, soft, softer = (model.encoder.prepare(scale * clip(1.0)) for scale in (1.0, 0.1, 0.01))
    np.testing.assert_allclose(soft[0].inputs, softer[0].inputs, rtol=1e-3)
    assert loud[0].inputs.sum() > 10 * soft[0].inputs.sum()


@pytest.mark.skipif(find_spec("resemblyzer") is None, reason="Resemblyzer is not installed")
def test_published_d_vectors() -> None:
    """Against Resemblyzer's own `embed_utterance`, after its `normalize_volume`."""
    long, short = made("speaker", "resemblyzer").extract([clip(2.6), 0.02 * clip(1.0)])
    values = [1, 6, 9, 12]
    np.testing.assert_allclose(long[0, values], [0.067925, 0.090315, 0.079554, 0.022638], atol=1e-5)
    np.testing.assert_allclose(short[0, values], [0.0, 0.026571, 0.232929, 0.109577], atol=1e-5)
