"""Dasheng's frames are those of an independent computation, on weights as published."""

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor
from ser.extract.testing import ExtractorConformance, clip
from ser.synthetic.encoders import write_dasheng
from tests.extract.factories import made, new_folder

DIM, HEADS, DEPTH, POSITIONS = 24, 3, 2, 252


@cache
def folder_of(name: str = "model.safetensors") -> Path:
    import torch
    from safetensors.torch import load_file

    folder = new_folder(f"dasheng-{name}")
    torch.manual_seed(0)
    write_dasheng(folder, DIM, DEPTH, HEADS)
    if name.endswith("bin"):
        torch.save(load_file(folder / "model.safetensors"), folder / name)
        (folder / "model.safetensors").unlink()
    return folder


class TestDasheng(ExtractorConformance):
    mixed = False
    test_bad_clip_harms_no_neighbour = None  # type: ignore[assignment]  # of the loop, not a row

    def make(self, **options: Any) -> Extractor:
        return made("speech", folder_of(), **options)


def decibels(wave: np.ndarray) -> np.ndarray:
    """Return the mels `(bands, rows)`, by numpy alone."""
    padded = np.pad(wave.astype(np.float64), 256, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    rows = [padded[i : i + 512] for i in range(0, len(wave) + 1, 160)]
    power = np.abs(np.fft.rfft(np.array(rows) * window)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 66) / 2595) - 1)
    bins = np.linspace(0, 8000, 257)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    filters = np.maximum(0, np.minimum(rising, falling))
    values = 10 * np.log10(np.maximum(power @ filters, 1e-10)).T
    return np.maximum(values, values.max() - 120)


def norm(x: np.ndarray, t: dict[str, np.ndarray], name: str) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * t[f"{name}.weight"] + t[f"{name}.bias"]


def linear(x: np.ndarray, t: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]


def recomputed(wave: np.ndarray) -> np.ndarray:
    """Return all states `(states, frames, dim)` of a clip of at most 10 s, by numpy alone."""
    from safetensors.torch import load_file
    from scipy.special import erf

    stored = load_file(folder_of() / "model.safetensors")
    t = {k.removeprefix("encoder."): v.double().numpy() for k, v in stored.items()}
    bn = {k.removeprefix("init_bn.1."): v[..., None] for k, v in t.items() if "init_bn" in k}
    mels = decibels(wave) - bn["running_mean"]
    mels = mels / np.sqrt(bn["running_var"] + 1e-5) * bn["weight"] + bn["bias"]
    frames = mels.shape[1] // 4
    patches = mels[:, : 4 * frames].reshape(64, frames, 4)
    x = np.einsum("dbr,btr->td", t["patch_embed.proj.weight"][:, 0], patches)
    x = x + t["patch_embed.proj.bias"] + t["freq_pos_embed"][0, :, 0, 0]
    x = x + t["time_pos_embed"][0, :, 0, :frames].T
    states = [x]
    for i in range(DEPTH):
        parts = linear(norm(x, t, f"blocks.{i}.norm1"), t, f"blocks.{i}.attn.qkv")
        q, k, v = parts.reshape(frames, 3, HEADS, DIM // HEADS).transpose(1, 2, 0, 3)
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(DIM // HEADS))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        x = x + linear(mixed.transpose(1, 0, 2).reshape(frames, DIM), t, f"blocks.{i}.attn.proj")
        inner = linear(norm(x, t, f"blocks.{i}.norm2"), t, f"blocks.{i}.mlp.fc1")
        x = x + linear(inner * (1 + erf(inner / np.sqrt(2))) / 2, t, f"blocks.{i}.mlp.fc2")
        states.append(x)
    return np.array([*states[:-1], norm(x, t, "norm")])


def frames_of(folder: Path, wave: np.ndarray, **options: Any) -> np.ndarray:
    (frames,) = made("speech", folder, **options).extract([wave])
    assert isinstance(frames, np.ndarray)
    return frames


def test_frames_are_those_of_an_independent_computation() -> None:
    frames = frames_of(folder_of(), clip(1.3), layer="all")
    expected = recomputed(clip(1.3)).transpose(1, 0, 2)
    assert frames.shape == (32, 1 + DEPTH, DIM)
    np.testing.assert_allclose(frames, expected, atol=1e-3)


def test_weights_are_read_from_either_format() -> None:
    frames = frames_of(folder_of("pytorch_model.bin"), clip(0.7))
    np.testing.assert_array_equal(frames, frames_of(folder_of(), clip(0.7)))


def test_a_clip_of_more_than_ten_seconds_is_cut_into_windows() -> None:
    wave = clip(12.0)
    assert len(frames_of(folder_of(), wave)) == 300
    assert len(frames_of(folder_of(), wave[: 160 * 1007])) == POSITIONS


def test_other_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder_of(), tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["encoder.blocks.1.norm1.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as error:
        made("speech", tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'model.safetensors'}: these are not Dasheng's weights as published."
    )
