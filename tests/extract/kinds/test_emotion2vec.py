import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor
from ser.extract.kinds.emotion2vec_model import distances
from ser.extract.models import resolve
from ser.extract.testing import ExtractorConformance, clip
from tests.extract.factories import made, new_folder, tiny_speech

DIM, HEADS, WIDTH = 24, 3, 16
KERNELS = (10, 3, 3, 3, 3, 2, 2)


def published() -> dict[str, np.ndarray]:
    """Return tensors with the names of the published ones: two blocks, three more, nine classes."""
    audio = "modality_encoders.AUDIO"
    shapes: dict[str, tuple[int, ...]] = {
        f"{audio}.extra_tokens": (1, 10, DIM),
        f"{audio}.alibi_scale": (1, 1, HEADS, 1, 1),
        f"{audio}.project_features.1.weight": (WIDTH,),
        f"{audio}.project_features.1.bias": (WIDTH,),
        f"{audio}.project_features.2.weight": (DIM, WIDTH),
        f"{audio}.project_features.2.bias": (DIM,),
        f"{audio}.context_encoder.norm.weight": (DIM,),
        f"{audio}.context_encoder.norm.bias": (DIM,),
        "proj.weight": (9, DIM),
        "proj.bias": (9,),
    }
    for i, kernel in enumerate(KERNELS):
        layer = f"{audio}.local_encoder.conv_layers.{i}"
        shapes[f"{layer}.0.weight"] = (WIDTH, WIDTH if i else 1, kernel)
        shapes |= {f"{layer}.2.1.{name}": (WIDTH,) for name in ("weight", "bias")}
    for i in range(1, 6):
        layer = f"{audio}.relative_positional_encoder.{i}.0"
        shapes |= {f"{layer}.weight": (DIM, DIM // 4, 19), f"{layer}.bias": (DIM,)}
    blocks = [f"{audio}.context_encoder.blocks.{i}" for i in range(2)]
    for block in [*blocks, *(f"blocks.{i}" for i in range(3))]:
        linear = {"attn.qkv": (3 * DIM, DIM), "attn.proj": (DIM, DIM)}
        linear |= {"mlp.fc1": (4 * DIM, DIM), "mlp.fc2": (DIM, 4 * DIM)}
        for name, shape in linear.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}.{norm}.{name}": (DIM,) for name in ("weight", "bias")}
    random = np.random.default_rng(0)
    return {name: tensor(random, name, shapes[name]) for name in sorted(shapes)}


def tensor(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = random.standard_normal(shape)
    if name.endswith("alibi_scale"):
        return np.abs(values).astype(np.float32)
    if len(shape) > 1:
        return (values / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return (0.1 * values + (1.0 if "weight" in name else 0.0)).astype(np.float32)


@cache
def folder_of(model: str = "whole") -> Path:
    import torch

    tensors = {name: torch.from_numpy(values) for name, values in published().items()}
    if model == "other":
        del tensors["modality_encoders.AUDIO.context_encoder.norm.weight"]
    folder = new_folder(f"emotion2vec-{model}")
    torch.save({"model": tensors}, folder / "model.pt")
    return folder


class TestEmotion2vec(ExtractorConformance):
    def make(self, **options: Any) -> Extractor:
        return made("speech", folder_of(), **options)


def test_frames_are_those_of_the_published_code() -> None:
    """Against FunASR 1.2.7's `extract_features` with these tensors, after its `layer_norm`."""
    (frames,) = made("speech", folder_of()).extract([clip(1.0)])
    assert frames.shape == (49, DIM)
    np.testing.assert_allclose(frames[[0, 20, 48], 0], GOLDEN, atol=1e-4)


def test_distances_fall_off_by_powers_of_two() -> None:
    bias = distances(3, 3)
    np.testing.assert_allclose(bias[:, 0, 2], [-2 / 16, -2 / 256, -2 / 4])
    np.testing.assert_allclose(bias[1], bias[1].T)
    assert not bias.diagonal(dim1=1, dim2=2).any()


def test_another_layout_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.pt: these are not emotion2vec's weights as"):
        made("speech", folder_of("other"))


def test_code_in_the_weights_is_not_run(tmp_path: Path) -> None:
    import torch

    torch.save({"model": folder_of}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt: it cannot be read without running code"):
        made("speech", tmp_path)


def test_stray_weights_beside_a_config_are_no_part_of_the_model(tmp_path: Path) -> None:
    folder = tiny_speech("WavLM", "layer")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.pt").write_bytes(b"a checkpoint")
    assert resolve(str(tmp_path)).digest == resolve(str(folder)).digest
    (frames,), (expected,) = (made("speech", m).extract([clip(1.0)]) for m in (tmp_path, folder))
    np.testing.assert_array_equal(frames, expected)


GOLDEN = [-1.01453, -0.73729, -0.92653]
