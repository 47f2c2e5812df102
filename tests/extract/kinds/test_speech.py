import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.extract.extractor import SAMPLE_RATE, Extractor, parse_options
from ser.extract.job import Job
from ser.extract.kinds.speech import AT_ONCE, cuts
from ser.extract.testing import ExtractorConformance, clip
from tests.extract.factories import made, tiny_speech, tiny_w2v_bert, tiny_whisper, write_corpus


class TestWav2Vec2Layer(ExtractorConformance):
    family, norm = "Wav2Vec2", "layer"

    def make(self, **options: Any) -> Extractor:
        return made("speech", tiny_speech(self.family, self.norm), **options)


class TestWav2Vec2Group(TestWav2Vec2Layer):
    norm = "group"


class TestWavLMLayer(TestWav2Vec2Layer):
    family = "WavLM"


@pytest.mark.slow  # of the same code as others
class TestWavLMGroup(TestWav2Vec2Group):
    family = "WavLM"


class TestConformerLayer(TestWav2Vec2Layer):
    family = "Wav2Vec2Conformer"


class TestW2vBert(ExtractorConformance):
    def make(self, **options: Any) -> Extractor:
        return made("speech", tiny_w2v_bert(), **options)


class TestChunks(TestWav2Vec2Layer):
    """1.7 s and 2.6 s become two and four chunks."""

    family = "WavLM"

    def make(self, **options: Any) -> Extractor:
        return super().make(chunk=1.0, overlap=0.4, **options)


class TestChunksOfEqualLength(TestChunks):
    norm = "group"


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


def test_the_error_for_a_clip_under_one_frame_names_the_minimum() -> None:
    with pytest.raises(ValueError, match=r"^399 samples are fewer than one frame needs \(400\)$"):
        made("speech", tiny_speech("Hubert", "layer")).extract([np.ones(399, np.float32)])


def test_whisper_is_not_of_kind_speech() -> None:
    folder = tiny_whisper()
    with pytest.raises(UserError) as raised:
        made("speech", folder)
    assert str(raised.value) == (
        f"{folder}: this whisper model is not of kind speech; use `kind: whisper`."
    )


def test_w2v_bert_is_the_models_last_hidden_state() -> None:
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    wave = clip(1.31)
    inputs = AutoFeatureExtractor.from_pretrained(tiny_w2v_bert())(
        wave, sampling_rate=16_000, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(tiny_w2v_bert()).eval()(**inputs).last_hidden_state[0]
    (frames,) = made("speech", tiny_w2v_bert()).extract([wave])
    whole = int(inputs["attention_mask"].sum())
    assert (whole, len(expected)) == (64, 65)  # 129 rows of log-mels: the last has no partner
    np.testing.assert_allclose(frames, expected[:whole], atol=1e-5)


@pytest.mark.parametrize("least", [400, 560])
def test_least_clip_is_one_frame(least: int) -> None:
    model = made("speech", tiny_speech("WavLM", "layer") if least == 400 else tiny_w2v_bert())
    short, enough, forty_ms = (clip(n / SAMPLE_RATE) for n in (least - 1, least, 640))
    assert [len(frames) for frames in model.extract([enough, forty_ms])] == [1, 1]
    with pytest.raises(ValueError) as raised:
        model.extract([short])
    assert str(raised.value) == (f"{least - 1} samples are fewer than one frame needs ({least})")


def test_another_frame_rate_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "slow"
    shutil.copytree(tiny_speech("WavLM", "layer"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["conv_stride"] = [5, 2, 2, 2, 2, 2, 4]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"this wavlm model is not of kind speech; "):
        made("speech", folder)


def test_adapter_that_thins_frames_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(tiny_w2v_bert(), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"add_adapter": True}))
    (frames,) = made("speech", folder).extract([clip(1.0)])
    np.testing.assert_array_equal(frames, made("speech", tiny_w2v_bert()).extract([clip(1.0)])[0])


@given(st.integers(1, 3000), st.integers(50, 400), st.floats(0.0, 0.5))
@settings(deadline=None)
def test_cuts_keep_every_frame_once_and_far_from_where_it_was_cut(
    frames: int, chunk: int, share: float
) -> None:
    overlap = int(share * chunk)
    actual = cuts(frames, chunk, overlap)
    kept = [range(start + part.start, start + part.stop) for start, part in actual]
    assert [frame for part in kept for frame in part] == list(range(frames))
    for (start, part), frames_kept in zip(actual, kept, strict=True):
        assert 0 <= part.start < part.stop <= chunk
        assert start + chunk <= max(frames, chunk)
        assert frames_kept.start == 0 or part.start >= overlap // 2
        assert frames_kept.stop == frames or chunk - part.stop >= overlap // 2


SPEECH = [
    *((family, norm) for family in ("Wav2Vec2", "Hubert", "WavLM") for norm in ("layer", "group")),
    ("Wav2Vec2Conformer", "layer"),
    ("Wav2Vec2Bert", ""),
]


def whole_and_joined(
    family: str, norm: str, waves: Sequence[np.ndarray], layer: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Run clips at once, and in chunks of 2 s that share 0.6 s."""
    folder = tiny_speech(family, norm) if norm else tiny_w2v_bert()
    whole = made("speech", folder, layer=layer, chunk=100.0).extract(waves)
    joined = made("speech", folder, layer=layer, chunk=2.0, overlap=0.6).extract(waves)
    return list(zip(whole, joined, strict=True))


@pytest.mark.parametrize(("family", "norm"), SPEECH)
def test_joined_chunks_have_as_many_frames_as_one_run(family: str, norm: str) -> None:
    around = [32_080 + n for n in (-1, 0, 1, 159, 160, 319, 320, 321, 480)]  # 2 s is 32 080
    waves = [clip(n / SAMPLE_RATE, n) for n in (*around, 60_001, 90_000)]
    for whole, joined in whole_and_joined(family, norm, waves, -1):
        assert whole.shape == joined.shape


@pytest.mark.parametrize(("family", "norm"), [pair for pair in SPEECH if pair[1] != "group"])
def test_joined_chunks_equal_one_run_where_there_is_no_attention_yet(
    family: str, norm: str
) -> None:
    ((whole, joined),) = whole_and_joined(family, norm, [clip(7.3)], 0)
    np.testing.assert_allclose(joined, whole, atol=1e-5)  # so the frames are aligned, seams and all


@pytest.mark.parametrize(("family", "norm"), SPEECH)
def test_joined_chunks_come_near_one_run(family: str, norm: str) -> None:
    ((whole, joined),) = whole_and_joined(family, norm, [clip(7.3)], -1)
    scale = np.linalg.norm(whole - whole.mean(axis=0), axis=1)
    off = np.linalg.norm(joined - whole, axis=1) / scale
    shifted = np.linalg.norm(joined[1:] - whole[:-1], axis=1) / scale[:-1]
    assert np.median(off) < (0.15 if norm == "group" else 0.02)
    assert np.median(shifted) > 1.0  # what one frame of misalignment would look like


def test_whole_clip_is_normalised_before_it_is_cut() -> None:
    loud_then_soft = np.concatenate([clip(2.0), 0.01 * clip(2.0, 1)])
    ((whole, joined),) = whole_and_joined("WavLM", "layer", [loud_then_soft], 0)
    np.testing.assert_allclose(joined, whole, atol=1e-5)


def test_long_clip_is_run_a_few_chunks_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = made("speech", tiny_speech("WavLM", "layer"), chunk=1.0, overlap=0.2)
    run, seen = model.encoder.run, []

    def watched(inputs: Any, mask: Any) -> Any:
        seen.append(tuple(inputs.shape))
        return run(inputs, mask)

    monkeypatch.setattr(model.encoder, "run", watched)
    model.extract([clip(10.0)])
    assert seen == [(AT_ONCE, 16_080)] * 3 + [(1, 16_080)]  # 50 frames: 49 * 320 + 400
    assert model.cost(10 * SAMPLE_RATE) == 13 * 50


def test_plans_account_for_chunks() -> None:
    layer, group = (
        made("speech", tiny_speech("WavLM", norm), chunk=1.0, overlap=0.2)
        for norm in ("layer", "group")
    )
    assert layer.cost(16_000) == group.cost(16_000) == 50.0
    assert layer.cost(32_000) == group.cost(32_000) == 3 * 50
    assert group.batch_key(40_000) == group.batch_key(32_000) == 16_080
    assert layer.batch_key(40_000) is None


def test_chunks_at_their_default_are_not_part_of_the_fingerprint(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "audio", clips=1)
    assert spec(tmp_path, manifest) == {"kind": "speech", "version": 1}
    assert spec(tmp_path, manifest, chunk=10.0)["chunk"] == 10.0


def spec(folder: Path, manifest: Manifest, **entry: Any) -> dict[str, Any]:
    options = parse_options({"kind": "speech", "model": "wavlm-large", **entry})
    return Job("feature", options, manifest, folder, folder).spec


def test_overlap_of_more_than_half_a_chunk() -> None:
    with pytest.raises(ValidationError) as raised:
        parse_options({"kind": "speech", "model": "wavlm-large", "chunk": 4.0, "overlap": 2.1})
    (error,) = raised.value.errors()
    assert error["msg"] == "Value error, `overlap` is at most half of `chunk` (2 s)"
