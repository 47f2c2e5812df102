"""SPEAR's frames are those that its published code gives, on weights as published."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor
from ser.extract.kinds.speech_inputs import kaldi_mels
from ser.extract.testing import ExtractorConformance, clip
from ser.synthetic.spear import SpearSizes, spear_shapes, write_spear
from tests.extract.factories import made, new_folder

SIZES = SpearSizes(24, 32, heads=2, layers=(1, 2, 1), steps=(1, 4, 2), kernels=(7, 5, 3), places=8)


@cache
def folder_of() -> Path:
    """Return SPEAR with weights that depend on numpy's generator alone."""
    import torch
    from safetensors.torch import save_file

    folder = new_folder("spear")
    write_spear(folder, SIZES)
    save_file(
        {f"model.model.{k}": torch.from_numpy(v) for k, v in drawn().items()},
        folder / "model.safetensors",
    )
    return folder


def drawn() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in spear_shapes(SIZES).items():
        scale = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1
        values = np.asarray(random.standard_normal(shape) * scale + ("scale" in name) * 0.5)
        tensors[name] = values.astype(np.float32)
    return tensors


class TestSpear(ExtractorConformance):
    slack = 4  # of nine rows for a frame, seven are lost
    test_bad_clip_harms_no_neighbour = None  # type: ignore[assignment]  # of the loop, not a row

    def make(self, **options: Any) -> Extractor:
        return made("speech", folder_of(), **options)


def frames_of(folder: Path, wave: np.ndarray, **options: Any) -> np.ndarray:
    (frames,) = made("speech", folder, **options).extract([wave])
    assert isinstance(frames, np.ndarray)
    return frames


# of the published code, for clip(1.3) with torchaudio's log-mels and the weights of drawn()
LOG_MELS = [  # rows 0, 64 and 129; bands 0, 64 and 127
    [-2.95313, -3.65438, 1.7965],
    [-5.71306, -1.53498, 2.10748],
    [-2.05125, -1.40389, 2.45251],
]
STATES = [  # frames 0, 30 and 60; the input of the stacks, the layers and the output; two values
    [
        [0.95309, -0.67909],
        [1.32916, -0.28986],
        [0.40198, -0.72299],
        [1.23108, -0.27919],
        [-0.07825, -0.32162],
    ],
    [
        [0.40172, -1.13557],
        [0.5766, -0.56623],
        [0.15989, -0.78191],
        [1.01881, -0.38142],
        [-0.32661, -0.46337],
    ],
    [
        [1.45143, -0.48506],
        [1.88196, 0.21594],
        [0.98161, -0.26283],
        [1.53116, -0.2101],
        [0.30492, -0.08728],
    ],
]


def test_log_mels_are_kaldis() -> None:
    rows = kaldi_mels(clip(1.3))
    assert rows.shape == (130, 128)
    np.testing.assert_allclose(rows[[0, 64, -1]][:, [0, 64, 127]], LOG_MELS, atol=1e-3)


def test_frames_are_those_of_the_published_code() -> None:
    frames = frames_of(folder_of(), clip(1.3), layer="all")
    assert frames.shape == (61, 5, 24)
    np.testing.assert_allclose(frames[[0, 30, 60], :, :2], STATES, atol=1e-4)


def test_a_long_clip_is_cut_where_every_frame_has_its_rows() -> None:
    wave = clip(3.0)
    whole = frames_of(folder_of(), wave, layer=0)
    cut = frames_of(folder_of(), wave, layer=0, chunk=1.0, overlap=0.4)
    assert whole.shape == (146, 24)
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_a_folder_without_a_model_type_is_recognised(tmp_path: Path) -> None:
    shutil.copytree(folder_of(), tmp_path, dirs_exist_ok=True)
    config = SIZES.config()
    del config["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    frames = frames_of(tmp_path, clip(0.5))
    np.testing.assert_array_equal(frames, frames_of(folder_of(), clip(0.5)))


@pytest.mark.parametrize("change", [{"output_downsampling_factor": 2}, {"causal": True}])
def test_models_of_another_frame_rate_or_streaming_ones_are_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    shutil.copytree(folder_of(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps(SIZES.config() | change))
    with pytest.raises(UserError, match="this spear model is not of kind speech"):
        made("speech", tmp_path)


@pytest.mark.parametrize("lost", ["layers.1.norm.bias", "out_combiner.bypass_scale"])
def test_other_weights_are_refused(tmp_path: Path, lost: str) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder_of(), tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    remaining = {name: tensor for name, tensor in tensors.items() if not name.endswith(lost)}
    assert len(remaining) < len(tensors)
    save_file(remaining, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as error:
        made("speech", tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'model.safetensors'}: these are not SPEAR's weights as published."
    )
