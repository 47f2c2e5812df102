import json
import os
import pickle
import shutil
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor, parse_options
from ser.extract.kinds.facodec_model import Decoder, Encoder, FACodec
from ser.extract.kinds.facodec_weights import load_facodec
from ser.extract.kinds.prosody import Facodec, FacodecOptions, facodec_length
from ser.extract.models import FACODEC_FILES, resolve
from ser.extract.registry import card
from ser.extract.testing import ExtractorConformance, clip
from tests.extract.factories import made, new_folder

ENCODER, DECODER = FACODEC_FILES
SHARED = Path(os.environ.get("SER_SHARED", ""))
shared = pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")

Tensors = dict[str, torch.Tensor]


def networks() -> tuple[Encoder, Decoder]:
    torch.manual_seed(0)
    encoder, decoder = Encoder(), Decoder()
    for name, weight in encoder.named_parameters():
        if name.endswith(".filter"):
            torch.nn.init.constant_(weight, 1 / 12)
    return encoder, decoder


def stored(network: torch.nn.Module) -> Tensors:
    """Name tensors as the official files do: weight norm in two, and more than is read."""
    tensors: Tensors = {"phone_predictor.heads.0.bias": torch.zeros(3)}
    for name, weight in network.state_dict().items():
        normed = isinstance(network, Encoder) or name.startswith("quantizer.0.layers.0.")
        if normed and name.endswith(".weight") and "_codebook" not in name:
            dims = tuple(range(1, weight.ndim))
            tensors[f"{name}_g"] = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
            tensors[f"{name}_v"] = 3 * weight
        else:
            tensors[name] = weight
    return tensors


@cache
def random_pair() -> Path:
    folder = new_folder("facodec")
    for network, name in zip(networks(), FACODEC_FILES, strict=True):
        torch.save(stored(network), folder / name)
    return folder


def copy_of_pair(folder: Path) -> Path:
    return shutil.copytree(random_pair(), folder / "pair")


class TestFacodec(ExtractorConformance):
    layered = False

    def make(self, **options: Any) -> Extractor:
        return made("facodec", random_pair(), **options)

    def inputs(self, extractor: Extractor) -> list[np.ndarray]:
        return [clip(seconds, i) for i, seconds in enumerate((0.2, 0.4, 0.4, 0.7))]

    @pytest.mark.slow  # test_chunks_of_the_encoder_change_nothing is the quick one
    def test_very_long_input_works_or_explains_why_not(self) -> None:
        super().test_very_long_input_works_or_explains_why_not()


# --- parity with the published reference, for weights made by the rule of shared/README.md


def by_rule(name: str, shape: list[int]) -> torch.Tensor:
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    values = generator.standard_normal(shape).astype(np.float32).astype(np.float64)
    ruled = values / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else values * 0.1
    return torch.from_numpy(ruled.astype(np.float32))


@cache
def golden_pair() -> Path:
    folder = new_folder("facodec-golden")
    keys = json.loads((SHARED / "golden" / "facodec_keys.json").read_text())
    for part, name in zip(("encoder", "decoder_used"), FACODEC_FILES, strict=True):
        torch.save({key: by_rule(key, shape) for key, shape in keys[part].items()}, folder / name)
    return folder


@cache
def golden() -> tuple[FACodec, dict[str, np.ndarray]]:
    with np.load(SHARED / "golden" / "facodec.npz") as file:
        return load_facodec(golden_pair()), dict(file)


def as_published(wave: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.pad(wave, (0, 200 - len(wave) % 200)))[None]


@shared
def test_mel_and_codes_are_the_references() -> None:
    model, expected = golden()
    waves = as_published(expected["wav"])
    with torch.inference_mode():
        mel, codes = model.log_mel(waves)[0], model.prosody_codes(waves)[0]
    np.testing.assert_allclose(mel, expected["prosody_mel"], atol=1e-5)
    np.testing.assert_array_equal(codes, expected["prosody_codes"])


@shared
def test_encoder_is_the_references() -> None:
    model, expected = golden()
    with torch.inference_mode():
        actual = model.encoder(as_published(expected["wav"]))[0].numpy()
    # weights by the rule let the sines run wild: the values reach 93, and the reference's own fp32
    # is up to 0.0076 off the same network in fp64, hence relative to the largest
    scale = np.abs(expected["encoder"]).max()
    np.testing.assert_allclose(actual / scale, expected["encoder"] / scale, atol=2e-4)


@shared
def test_timbre_frames_of_the_references_encoder_are_the_references() -> None:
    model, expected = golden()
    with torch.inference_mode():
        frames = torch.from_numpy(expected["encoder"].T)[None]
        actual = model.decoder.timbre_encoder(frames)[0]
    np.testing.assert_allclose(actual, expected["features"][:, 256:], atol=1e-5)


@shared
def test_features_are_the_references_alone_and_in_a_batch() -> None:
    _, expected = golden()
    wave, features = expected["wav"], expected["features"]
    batch = [wave, wave[:5_000], wave[::-1], wave, wave[:9_200]]
    extractor = made("facodec", golden_pair())
    together, alone = extractor.extract(batch), [extractor.extract([w])[0] for w in batch[:3]]
    for found in (alone[0], together[0], together[3]):
        np.testing.assert_allclose(found[:, :256], features[:, :256], atol=1e-5)
        error = np.abs(found - features)
        assert np.quantile(error, 0.999) < 1e-4
        assert error.max() < 4e-4  # fp64 is 1.8e-4 off: see the encoder above
    alone += [alone[0], *extractor.extract([batch[4]])]
    for wave, one, other in zip(batch, together, alone, strict=True):
        assert one.shape == (len(wave) // 200 + 1, 512)
        np.testing.assert_allclose(one[:, :256], other[:, :256], atol=1e-5)
        np.testing.assert_allclose(one[:, 256:], other[:, 256:], atol=4e-4)


def test_prosody_alone_is_the_first_half() -> None:
    wave = np.sin(np.arange(4_000) / 20).astype("f4")
    (both,) = made("facodec", random_pair()).extract([wave])
    extractor = made("facodec", random_pair(), parts="prosody")
    (prosody,) = extractor.extract([wave])
    assert (extractor.item_shape, prosody.shape) == ((256,), (21, 256))
    np.testing.assert_array_equal(prosody, both[:, :256])


# --- loading


def test_weight_norm_is_folded_in_and_foreign_keys_are_ignored() -> None:
    loaded = load_facodec(random_pair())
    for network, own in zip(networks(), (loaded.encoder, loaded.decoder), strict=True):
        for name, weight in network.state_dict().items():
            torch.testing.assert_close(own.state_dict()[name], weight, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        (ENCODER, "block.0.weight_g"),
        (ENCODER, "block.2.block.1.block.2.act.beta"),
        (ENCODER, "block.5.upsample.filter"),
        (DECODER, "melspec_linear.weight"),
        (DECODER, "quantizer.0.layers.0._codebook.weight"),
        (DECODER, "timbre_encoder.layers.3.ffn.ffn_1.weight"),
    ],
)
def test_missing_weight_is_named(tmp_path: Path, file: str, key: str) -> None:
    folder = copy_of_pair(tmp_path)
    tensors = torch.load(folder / file, weights_only=True)
    del tensors[key]
    torch.save(tensors, folder / file)
    with pytest.raises(UserError) as caught:
        load_facodec(folder)
    assert str(caught.value) == (
        f"{folder / file}: the weight '{key}' is missing; give the official {file} of "
        "amphion/naturalspeech3_facodec."
    )


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("block.0.bias", (3,), "the weight 'block.0.bias' is (3,), not (32,)"),
        ("block.0.weight_g", (3, 1, 1), "'block.0.weight_g' does not fit 'block.0.weight_v'"),
        (
            "block.1.block.4.weight_v",
            (64, 32, 6),
            "the weight 'block.1.block.4.weight' is (64, 32, 6), not (64, 32, 4)",
        ),
    ],
)
def test_weight_of_another_shape_is_refused(
    tmp_path: Path, key: str, shape: tuple[int, ...], message: str
) -> None:
    folder = copy_of_pair(tmp_path)
    tensors = torch.load(folder / ENCODER, weights_only=True)
    torch.save(tensors | {key: torch.ones(shape)}, folder / ENCODER)
    with pytest.raises(UserError) as caught:
        load_facodec(folder)
    assert str(caught.value) == (
        f"{folder / ENCODER}: {message}; give the official {ENCODER} of "
        "amphion/naturalspeech3_facodec."
    )


class Payload:
    """Make a folder when unpickled by something careless."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("save", [torch.save, lambda o, path: path.write_bytes(pickle.dumps(o, 2))])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, save: Any) -> None:
    folder = copy_of_pair(tmp_path)
    save({"block.0.bias": Payload(tmp_path / "owned")}, folder / ENCODER)
    with pytest.raises(UserError) as caught:
        load_facodec(folder)
    assert str(caught.value) == (
        f"{folder / ENCODER}: it is damaged or holds other objects than tensors, and was not "
        "loaded; download the official file again."
    )
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("payload", [[1, 2], {"block.0.bias": 3}])
def test_file_without_tensors_is_refused(tmp_path: Path, payload: Any) -> None:
    folder = copy_of_pair(tmp_path)
    torch.save(payload, folder / DECODER)
    with pytest.raises(UserError) as caught:
        load_facodec(folder)
    assert str(caught.value) == (
        f"{folder / DECODER}: it is not a dict of tensors; download the official file again."
    )


def test_cut_off_file_is_refused(tmp_path: Path) -> None:
    folder = copy_of_pair(tmp_path)
    os.truncate(folder / DECODER, 100_000)
    with pytest.raises(UserError, match="it is damaged or holds other objects than tensors"):
        load_facodec(folder)


def test_the_missing_one_of_two_files_is_named(tmp_path: Path) -> None:
    folder = copy_of_pair(tmp_path)
    (folder / DECODER).unlink()
    with pytest.raises(UserError) as caught:
        load_facodec(resolve(str(folder)).folder)
    assert str(caught.value) == (
        f"{folder / DECODER} does not exist; `model:` must name a folder with "
        f"{ENCODER} and {DECODER}."
    )


# --- sizes, options, names


@pytest.mark.slow
def test_chunks_of_the_encoder_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_facodec(random_pair()).encoder.double()
    waves = torch.from_numpy(clip(0.8))[None].double()
    monkeypatch.setattr("ser.extract.kinds.facodec_model.CHUNK", 37)
    with torch.inference_mode():
        chunked, whole = encoder(waves), encoder.block(waves[:, None])
    assert chunked.shape == (1, 256, 64)
    torch.testing.assert_close(chunked, whole, atol=1e-13, rtol=0)


def test_cudnn_runs_it_without_tf32() -> None:
    extractor = made("facodec", random_pair())
    assert isinstance(extractor, Facodec)
    flags: list[tuple[bool, bool]] = []
    cudnn = torch.backends.cudnn
    hook = extractor.encoder.model.register_forward_pre_hook(
        lambda *_: flags.append((cudnn.enabled, cudnn.allow_tf32))
    )
    extractor.extract([clip(0.5)])
    hook.remove()
    assert flags == [(True, False)]


def test_short_name_is_the_default_and_brings_its_kind() -> None:
    by_kind, by_name = parse_options({"kind": "facodec"}), parse_options({"model": "facodec"})
    assert by_kind == by_name == FacodecOptions(kind="facodec", model="facodec")
    model_card = card("amphion/naturalspeech3_facodec")
    assert model_card is not None
    assert (model_card.kind, model_card.dim, model_card.frame_rate) == ("facodec", 512, 80)
    assert model_card.licence == "Apache-2.0 (card; once MIT)"


def test_there_is_no_layer_to_choose() -> None:
    with pytest.raises(ValidationError, match="layer"):
        parse_options({"kind": "facodec", "layer": -1})


def test_weights_are_named_by_their_contents(tmp_path: Path) -> None:
    folder = copy_of_pair(tmp_path)
    digest = resolve(str(folder)).digest
    assert digest == resolve(str(random_pair())).digest
    shutil.copy(folder / ENCODER, folder / DECODER)
    assert resolve(str(folder)).digest != digest


@settings(deadline=None)
@given(st.integers(0, 10**7))
def test_padding_always_adds_and_ends_on_a_frame(samples: int) -> None:
    assert facodec_length(samples) % 200 == 0
    assert samples < facodec_length(samples) <= samples + 200
    # as the published extraction pads
    assert facodec_length(samples) == samples + 200 - samples % 200


@pytest.mark.parametrize(("samples", "frames"), [(400, 3), (599, 3), (600, 4), (16_000, 81)])
def test_aligned_clip_has_a_frame_more(samples: int, frames: int) -> None:
    (results,) = made("facodec", random_pair()).extract([clip(1.0)[:samples]])
    assert results.shape == (frames, 512)


def test_clip_too_short_for_the_mel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^399 samples are fewer than FACodec takes \(400\)$"):
        made("facodec", random_pair()).extract([clip(1.0), clip(1.0)[:399]])


def test_prosody_frames_are_entries_of_the_codebook() -> None:
    (results,) = made("facodec", random_pair()).extract([clip(1.0)])
    codebook = networks()[1].codebook
    with torch.inference_mode():
        entries = codebook.look_up(torch.arange(1024)).numpy()
    nearest = np.abs(results[:, None, :256] - entries).max(axis=2).min(axis=1)
    np.testing.assert_allclose(nearest, 0, atol=1e-5)
