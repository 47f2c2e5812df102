"""Processors of our own give what those of transformers and mistral-common are known to give."""

from pathlib import Path

import numpy as np
import pytest

from ser.extract.extractor import SAMPLE_RATE
from ser.extract.testing import clip

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def test_granite_has_three_tokens_for_fifteen_frames(tmp_path: Path) -> None:
    from ser.extract.kinds.audio_processors import QUESTION, GraniteProcessor
    from ser.synthetic.processors import granite_tokenizer

    granite_tokenizer([QUESTION]).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    processor = GraniteProcessor(tmp_path)
    inputs = processor.apply_transcription_request([clip(1.0), clip(1.0, 1)])
    assert inputs["input_features"].shape == (2, 50, 160)  # 101 rows of 10 ms, in pairs
    assert inputs["input_features_mask"].shape == (2, 12)  # of 4 windows
    prompt = f"<s>user {12 * '<|audio|>'}{QUESTION}</s>"
    assert inputs["input_ids"].tolist() == 2 * [processor.tokenizer.encode(prompt)]


def test_voxtral_has_375_tokens_for_thirty_seconds(tmp_path: Path) -> None:
    from ser.extract.kinds.audio_processors import VoxtralProcessor
    from ser.synthetic.processors import SPECIAL, TEKKEN, TekkenProcessor

    TekkenProcessor().save_pretrained(tmp_path)
    long, short = np.tile(clip(1.0), 31), clip(1.0)
    inputs = VoxtralProcessor(tmp_path).apply_transcription_request([long, short], language="de")
    pad, start, _, _ = range(len(SPECIAL))
    on, off, begin, audio, transcribe = range(len(SPECIAL), len(TEKKEN) - 1)
    words = [byte + len(TEKKEN) for byte in b"lang:de"]
    first = [start, on, begin, *750 * [audio], off, *words, transcribe]
    second = [*375 * [pad], start, on, begin, *375 * [audio], off, *words, transcribe]
    assert inputs["input_ids"].tolist() == [first, second]
    assert inputs["attention_mask"].sum(1).tolist() == [len(first), len(first) - 375]

    extractor = transformers.WhisperFeatureExtractor(feature_size=128)
    padded = np.pad(long, (0, 29 * SAMPLE_RATE))
    mels = extractor(padded, sampling_rate=SAMPLE_RATE, truncation=False, return_tensors="pt")
    windows = torch.stack(mels["input_features"][0].split(3000, dim=-1))
    torch.testing.assert_close(inputs["input_features"][:2], windows)
    mels = extractor(short, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    torch.testing.assert_close(inputs["input_features"][2:], mels["input_features"])


@pytest.mark.parametrize(
    ("model_type", "tokens"),
    [("qwen2_5_omni", [0, 1, 25, 37]), ("qwen3_omni_moe", [1, 1, 13, 20])],
)
def test_omni_models_have_tokens_by_rows(model_type: str, tokens: list[int]) -> None:
    from ser.extract.kinds.audio_processors import OWN

    cls = OWN[f"{model_type}_thinker"]
    assert [cls.tokens(None, rows) for rows in (2, 3, 100, 150)] == tokens
