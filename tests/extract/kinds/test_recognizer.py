"""A recognizer's transcript is what its own processor and greedy decoding give, in any batch."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from ser.cache.transcripts import Transcript
from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE, parse_options
from ser.extract.kinds.recognizer import RECOGNIZERS, STEP, Recognizer, cut_at_pauses
from ser.extract.models import Weights
from ser.extract.testing import clip
from ser.synthetic.corpus import WORDS
from tests.extract.factories import made, new_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
ALIKE = {"parakeet_rnnt", "cohere_asr"}  # run by the same code as another row
NAMES = [pytest.param(n, marks=pytest.mark.slow if n in ALIKE else ()) for n in RECOGNIZERS]


@cache
def tiny(model_type: str) -> Path:
    from ser.synthetic.recognizers import write_recognizer

    torch.manual_seed(0)
    folder = new_folder(f"recognizer-{model_type}")
    write_recognizer(model_type, folder, WORDS)
    return folder


def transcribe(model_type: str, waves: list[np.ndarray], **options: Any) -> list[Transcript]:
    return made("recognizer", tiny(model_type), **options).extract(waves)  # type: ignore[return-value]


@pytest.mark.parametrize("name", NAMES)
def test_a_transcript_does_not_depend_on_the_batch(name: str) -> None:
    waves = [clip(seconds, seed) for seed, seconds in enumerate((0.4, 1.0, 1.0, 1.7))]
    together = transcribe(name, waves)
    assert len({transcript.text for transcript in together}) > 1
    for wave, transcript in zip(waves, together, strict=True):
        (alone,) = transcribe(name, [wave])
        assert alone.text == transcript.text
        assert alone.avg_logprob == pytest.approx(transcript.avg_logprob, abs=1e-5)


PLAIN = {"moonshine", "speech_to_text", "kyutai_speech_to_text"}  # processors of audio alone


@pytest.mark.parametrize("name", [*sorted(PLAIN), "canary", "qwen3_asr", "glmasr"])
def test_words_are_those_of_transformers(name: str) -> None:
    wave = clip(1.0, 3)
    processor = transformers.AutoProcessor.from_pretrained(tiny(name))
    options = {"canary": {"source_language": "en"}, "qwen3_asr": {"language": "English"}}
    kyutai = name.startswith("kyutai")
    most = 31 if kyutai else 23  # whole frames of 80 ms of 2.5 s: 1.5 s of silence are behind
    if name in PLAIN:
        rate = 24_000 if kyutai else SAMPLE_RATE
        audio = soxr.resample(wave, SAMPLE_RATE, rate)
        inputs = processor(audio=audio, sampling_rate=rate, return_tensors="pt")
    else:
        inputs = processor.apply_transcription_request(wave, **options.get(name, {}))
    model = getattr(transformers, f"{RECOGNIZERS[name].cls.partition('.')[2]}")
    output = model.from_pretrained(tiny(name)).generate(
        **inputs, do_sample=False, max_new_tokens=most
    )
    (text,) = processor.batch_decode(
        output if name in PLAIN else output[:, -23:], skip_special_tokens=True
    )
    assert transcribe(name, [wave])[0].text == text.strip()


@pytest.mark.parametrize("name", ["parakeet_rnnt", "parakeet_tdt"])
def test_a_transducer_emits_what_its_best_path_does(name: str) -> None:
    """Decode frame by frame: a blank goes on, a token is put in, and TDT skips its duration."""
    wave, folder = clip(1.0, 3), tiny(name)
    model = getattr(transformers, RECOGNIZERS[name].cls.partition(".")[2]).from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    vocabulary, blank = model.config.vocab_size, model.config.blank_token_id
    with torch.inference_mode():
        frames = model.get_audio_features(
            **processor(audio=wave, sampling_rate=SAMPLE_RATE)
        ).pooler_output[0]
        tokens, scores, place, symbols = [], [], 0, 0
        while place < len(frames):
            before = model.decoder(torch.tensor([[blank, *tokens]]))[:, -1:]
            logits = model.joint(frames[None, place, None], before).flatten()
            best = logits[:vocabulary].log_softmax(-1).max(-1)
            symbols = 0 if best.indices == blank else symbols + 1
            if best.indices != blank:
                tokens.append(int(best.indices))
                scores.append(float(best.values))
            if name == "parakeet_tdt":
                duration = model.config.durations[int(logits[vocabulary:].argmax())]
                place += max(duration, 1) if best.indices == blank else duration
            elif best.indices == blank or symbols == model.config.max_symbols_per_step:
                place, symbols = place + 1, 0
    (transcript,) = transcribe(name, [wave])
    assert transcript.text == processor.tokenizer.decode(tokens, group_tokens=False).strip()
    assert transcript.avg_logprob == pytest.approx(np.mean(scores), abs=1e-5)


def test_an_adapter_is_never_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny("granite_speech"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "adapter_config.json").write_text("{}")
    monkeypatch.setattr("importlib.metadata.version", lambda package: "0.1")
    with pytest.raises(UserError, match=r": its adapter needs peft [\d.]+ or newer; install that"):
        made("recognizer", tmp_path)


def test_a_long_clip_is_cut_at_pauses_and_its_words_joined() -> None:
    wave = np.concatenate([clip(4.0, 1), np.zeros(STEP, np.float32), clip(3.0, 2)])
    (whole,) = transcribe("canary", [wave], chunk=5.0)
    first, second = cut_at_pauses(wave, 5 * SAMPLE_RATE)
    assert len(first) == 4 * SAMPLE_RATE + STEP // 2
    parts = transcribe("canary", [first, second], chunk=5.0)
    assert whole.text == f"{parts[0].text} {parts[1].text}"
    assert whole.avg_logprob == pytest.approx(np.mean([part.avg_logprob for part in parts]))


def test_silence_has_no_words() -> None:
    spoken = clip(1.0, 3)
    silence, words = transcribe("canary", [np.zeros(8_000, np.float32), spoken])
    assert (silence.text, silence.no_speech_prob) == ("", 1.0)
    assert words.text == transcribe("canary", [spoken])[0].text


def test_words_depend_on_the_language() -> None:
    texts = {
        code: transcribe("canary", [clip(1.0)], language=code)[0].text for code in ("en", "de")
    }
    assert texts["en"] != texts["de"]


@pytest.mark.parametrize("name", ["canary", "cohere_asr", "qwen3_asr", "seamless_m4t_v2"])
def test_a_language_that_the_model_lacks_is_refused(name: str) -> None:
    with pytest.raises(
        UserError, match=r": it does not transcribe 'xx' \(.*\); correct `language`\.$"
    ):
        made("recognizer", tiny(name), language="xx")


@pytest.mark.parametrize(
    ("model_type", "remedy"),
    [
        ("whisper", "use `kind: asr`."),
        ("parakeet_ctc", "use `kind: ctc`."),
        ("bert", "those that can are Moonshine, "),
    ],
)
def test_other_models_are_refused(model_type: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    options: Any = parse_options({"kind": "recognizer", "model": str(tmp_path)})
    with pytest.raises(UserError) as error:
        Recognizer(options, Weights(tmp_path, "sha256:0")).batch_key(8_000)
    start = f"{tmp_path}: a {model_type} model cannot be run by `kind: recognizer`; {remedy}"
    assert str(error.value).startswith(start)


@pytest.mark.parametrize("config", [{}, {"model_type": ["whisper"]}])
def test_a_config_without_a_model_type_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    options: Any = parse_options({"kind": "recognizer", "model": str(tmp_path)})
    remedies = []
    for _ in range(2):
        with pytest.raises(UserError) as error:
            Recognizer(options, Weights(tmp_path, "sha256:0")).batch_key(8_000)
        remedies.append(str(error.value))
        (tmp_path / "model.bin").touch()
    start = f"{tmp_path}: its config.json names no model type; "
    assert remedies == [
        f"{start}get the model again.",
        f"{start}for Whisper of CTranslate2 use `kind: asr`.",
    ]
