"""The conformance suite of extractors of frames, which a test subclasses.

    class TestMine(ExtractorConformance):
        def make(self, **options):
            extractor = Mine(MineOptions(kind="mine", **options), weights)
            extractor.load("cpu")
            return extractor

pytest collects the methods of the subclass; nothing here imports it. The inputs are seeded noise
and tones, or sentences, of lengths that differ and of lengths that agree, so that batches of
extractors which cannot be padded have more than one clip as well.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from unittest import SkipTest
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl
import soundfile

from ser.cache.features import FeatureCache
from ser.corpus.manifest import Manifest
from ser.extract.device_memory import plan
from ser.extract.extractor import SAMPLE_RATE, Extractor
from ser.extract.job import Job, full_spec
from ser.extract.run import extract

SECONDS = (0.4, 1.0, 1.0, 1.7, 2.6)
TEXTS = (
    "Kids are talking by the door.",
    "no",
    "Dogs are sitting by the door, and nobody knows how long they have been waiting there.",
    "yes",
)

_ALONE: WeakKeyDictionary[Extractor, dict[bytes, np.ndarray]] = WeakKeyDictionary()


def clip(seconds: float, seed: int = 0) -> np.ndarray:
    """Make a tone in noise: float32 `(samples,)` at 16 kHz."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = 0.3 * np.sin(2 * np.pi * (120 + 40 * seed) * time)
    return (tone + 0.05 * random.standard_normal(len(time))).astype(np.float32)


class ExtractorConformance:
    """Test one extractor of frames, on the CPU."""

    layered: ClassVar[bool] = True  # takes `layer`
    mixed: ClassVar[bool] = True  # a batch may ignore batch_key and still be right
    slack: ClassVar[int] = 2  # frames that may be missing at the edges

    def make(self, **options: object) -> Extractor:
        """Return the extractor, loaded; `options` (`layer`) override those of the test."""
        raise NotImplementedError

    def inputs(self, extractor: Extractor) -> list[np.ndarray | str]:
        """Return the inputs of a batch."""
        if extractor.reads == "text":
            return list(TEXTS)
        return [clip(seconds, seed) for seed, seconds in enumerate(SECONDS)]

    def test_frames_are_finite_float32_of_item_shape(self) -> None:
        """Results are `(n >= 1, *item_shape)`."""
        extractor = self.make()
        for frames in extractor.extract(self.inputs(extractor)[:1]):
            assert isinstance(frames, np.ndarray)
            assert frames.dtype == np.float32
            assert len(frames) >= 1
            assert frames.shape[1:] == extractor.item_shape
            assert np.isfinite(frames).all()

    def test_frames_do_not_keep_a_larger_array_alive(self) -> None:
        """A view of a 30 s window would cost its whole storage for every clip that is kept."""
        extractor = self.make()
        frames = _alone(extractor, self.inputs(extractor)[0])
        base = frames if frames.base is None else frames.base
        assert getattr(base, "nbytes", 0) <= 2 * frames.nbytes

    def test_same_call_gives_the_same_bits(self) -> None:
        """No dropout or other randomness is active."""
        extractor = self.make()
        source = self.inputs(extractor)[0]
        np.testing.assert_array_equal(_run(extractor, source), _run(extractor, source))

    def test_loading_again_gives_the_same_bits(self) -> None:
        """Loading is deterministic too."""
        extractor = self.make()
        source = self.inputs(extractor)[0]
        before = _alone(extractor, source)
        extractor.load("cpu")
        np.testing.assert_array_equal(_run(extractor, source), before)

    def test_result_does_not_depend_on_the_batch(self) -> None:
        """Alone, or with others as the stage batches them."""
        extractor = self.make()
        inputs = {f"u{i}": source for i, source in enumerate(self.inputs(extractor))}
        sizes = {u: len(source) for u, source in inputs.items()}
        batches = plan(extractor, sizes, math.inf)
        assert any(len(batch) > 1 for batch in batches)
        for batch in batches:
            _equal(extractor, [inputs[u] for u in batch])

    def test_result_does_not_depend_on_a_mixed_batch(self) -> None:
        """All lengths in one call, where the extractor allows it."""
        extractor = self.make()
        if not self.mixed:
            raise SkipTest("this extractor only takes batches of one batch_key")
        _equal(extractor, self.inputs(extractor))

    def test_very_short_input_works_or_explains_why_not(self) -> None:
        """40 ms, or one letter."""
        extractor = self.make()
        _works_or_explains(extractor, "a" if extractor.reads == "text" else clip(0.04))

    def test_very_long_input_works_or_explains_why_not(self) -> None:
        """35 s, or more words than any model's window."""
        extractor = self.make()
        long = " ".join(TEXTS * 60) if extractor.reads == "text" else clip(35.0)
        _works_or_explains(extractor, long)

    def test_empty_text_is_one_frame_of_zeros(self) -> None:
        """Also between others."""
        extractor = self.make()
        if extractor.reads != "text":
            raise SkipTest("this extractor reads audio")
        for empty in ("", "   "):
            _, frames, _ = extractor.extract(["Somebody spoke.", empty, "Again."])
            np.testing.assert_array_equal(frames, np.zeros((1, *extractor.item_shape)))

    def test_frames_come_at_the_frame_rate(self) -> None:
        """Within `slack` frames."""
        extractor = self.make()
        if extractor.frame_rate is None:
            raise SkipTest("this extractor has no frame rate")
        for seconds in SECONDS:
            frames = _alone(extractor, clip(seconds))
            assert abs(len(frames) - seconds * extractor.frame_rate) <= self.slack

    def test_layer_policies_give_their_item_shape(self) -> None:
        """`all` gives (layers, dim), any other one dim; mean and sum are those of the states."""
        if not self.layered:
            raise SkipTest("this extractor has no layers to choose from")
        by_layer = {}
        for layer in (-1, -2, 1, "mean:-2:", "sum:-2:", "all"):
            extractor = self.make(layer=layer)
            by_layer[layer] = _alone(extractor, self.inputs(extractor)[0])
            assert by_layer[layer].shape[1:] == extractor.item_shape
            assert len(extractor.item_shape) == (2 if layer == "all" else 1)
        np.testing.assert_allclose(by_layer["sum:-2:"], by_layer[-1] + by_layer[-2], atol=1e-4)
        np.testing.assert_allclose(
            by_layer["mean:-2:"], (by_layer[-1] + by_layer[-2]) / 2, atol=1e-4
        )
        for layer in (-1, -2, 1):
            np.testing.assert_allclose(by_layer["all"][:, layer], by_layer[layer], atol=1e-4)

    def test_layer_the_model_lacks_is_refused(self) -> None:
        """With a reason, not with an index error from deep inside."""
        if not self.layered:
            raise SkipTest("this extractor has no layers to choose from")
        try:
            extractor = self.make(layer=99)
            extractor.extract(self.inputs(extractor)[:1])
        except ValueError as error:
            assert "99" in str(error)
        else:
            raise AssertionError("layer 99 was accepted")

    def test_bad_clip_harms_no_neighbour(self, tmp_path: Path) -> None:
        """One row cannot be opened, one cannot be decoded; the others are as they are alone."""
        extractor = self.make()
        inputs = self.inputs(extractor)
        job = _corpus(tmp_path, extractor, inputs)
        report = extract(job, device="cpu")
        bad = {"bad-open", "bad-decode"} if extractor.reads == "audio" else {"bad-open"}
        assert set(report.failed) == bad
        spec, _ = full_spec(job)
        cached = FeatureCache.existing(job.cache, job.name, spec)
        assert cached is not None
        assert set(cached.failed()["utterance"]) == bad
        for i, source in enumerate(inputs):
            expected = _alone(extractor, source)
            np.testing.assert_allclose(cached.frames(f"u{i}"), expected, atol=2e-3, rtol=2e-3)


def _alone(extractor: Extractor, source: object) -> np.ndarray:
    """Return the frames of a source by itself, which an extractor computes for one test only."""
    results = _ALONE.setdefault(extractor, {})
    key = source.tobytes() if isinstance(source, np.ndarray) else str(source).encode()
    if key not in results:
        results[key] = _run(extractor, source)
    return results[key]


def _run(extractor: Extractor, source: object) -> np.ndarray:
    (frames,) = extractor.extract([source])
    if isinstance(frames, ValueError):
        raise frames
    assert isinstance(frames, np.ndarray)
    return frames


def _equal(extractor: Extractor, batch: Sequence[object]) -> None:
    results = extractor.extract(batch)
    assert len(results) == len(batch)
    for source, frames in zip(batch, results, strict=True):
        assert isinstance(frames, np.ndarray)
        np.testing.assert_allclose(frames, _alone(extractor, source), atol=1e-4)


def _works_or_explains(extractor: Extractor, source: object) -> None:
    try:
        frames = _alone(extractor, source)
    except ValueError as error:
        assert len(str(error)) > 10  # a reason, not an empty exception
    else:
        assert len(frames) >= 1
        assert frames.shape[1:] == extractor.item_shape
        assert np.isfinite(frames).all()


def _corpus(folder: Path, extractor: Extractor, inputs: Sequence[np.ndarray | str]) -> Job:
    rows = []
    for i, source in enumerate(inputs):
        text = source if isinstance(source, str) else None
        rows.append({"utterance": f"u{i}", "path": f"u{i}.wav", "transcript": text})
        if not isinstance(source, str):
            soundfile.write(folder / f"u{i}.wav", source, SAMPLE_RATE, subtype="FLOAT")
    rows.append({"utterance": "bad-open", "path": "open.wav", "transcript": None})
    (folder / "open.wav").write_text("This file is not audio, in spite of its name.")
    if extractor.reads == "audio":
        rows.append({"utterance": "bad-decode", "path": "decode.wav", "transcript": None})
        broken = np.full(SAMPLE_RATE, np.nan, np.float32)
        soundfile.write(folder / "decode.wav", broken, SAMPLE_RATE, subtype="FLOAT")
    manifest = Manifest(pl.DataFrame(rows))
    return Job("feature", extractor.options, manifest, folder, folder / "cache")
