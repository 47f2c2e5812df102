"""A bad clip, a bad extractor or a bad disk costs what it must and no more."""

import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from ser.cache.features import FeatureCache
from ser.cache.transcripts import Transcript, TranscriptCache
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.extract.extractor import Extractor, FeatureOptions, extractor
from ser.extract.job import full_spec
from ser.extract.loading import load
from ser.extract.run import extract
from ser.extract.sources import AudioSources
from tests.cache.factories import flip
from tests.extract.factories import Slow, checksums, job, opened, write_corpus

GOOD = np.ones((3, 4), np.float32)


@extractor("odd")
class Odd(Slow):
    """Gives whatever a test puts in the place of the second clip's result, or raises it."""

    item_shape = (4,)
    result: ClassVar[Any] = None

    def load(self, device: str) -> None:
        pass

    def extract(self, batch: Any) -> Any:
        results: list[Any] = [GOOD for _ in batch]
        for i, clip in enumerate(batch):
            if len(clip) == 6_400:  # u01, of 0.4 s
                if isinstance(Odd.result, Exception):
                    raise Odd.result
                results[i] = Odd.result
        return results


class DecoderError(Exception):
    """An error of some library, of no kind that is known here."""


NUMBERS = "not an array of numbers"
SHAPE = "not (n, 4)"
RESULTS = {
    "nan": (np.full((2, 4), np.nan, np.float32), "the features hold NaN or infinite values"),
    "inf": (np.full((2, 4), np.inf), "the features hold NaN or infinite values"),
    "beyond float32": (np.full((2, 4), 1e300), "the features hold NaN or infinite values"),
    "dim": (np.ones((2, 5), np.float32), f"the features are of shape (2, 5), {SHAPE}"),
    "scalar": (np.array(1.0), f"the features are of shape (), {SHAPE}"),
    "empty": (np.ones((0, 4), np.float32), f"the features are of shape (0, 4), {SHAPE}"),
    "None": (None, f"the features are NoneType, {NUMBERS}"),
    "list": ([[1.0] * 4], f"the features are list, {NUMBERS}"),
    "objects": (np.full((2, 4), None), f"the features are object, {NUMBERS}"),
    "text": (np.full((2, 4), "1"), f"the features are <U1, {NUMBERS}"),
    "complex": (np.ones((2, 4), complex), f"the features are complex128, {NUMBERS}"),
    "raised": (DecoderError("page 7\nof 9"), "DecoderError: page 7"),
    "returned": (ValueError("no speech"), "ValueError: no speech"),
    "bug": (KeyError("pitch"), "KeyError: 'pitch'"),
    "memory": (MemoryError(), "MemoryError: "),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_one_bad_result_fails_its_clip_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    result, reason = RESULTS[kind]
    monkeypatch.setattr(Odd, "result", result)
    manifest = write_corpus(tmp_path / "audio", clips=4)
    work = job(tmp_path, manifest, kind="odd")
    report = extract(work, "cpu")
    assert (report.extracted, report.failed) == (3, {"u01": reason})
    assert dict(opened(work).failed().select("utterance", "error").iter_rows()) == report.failed
    assert opened(work).verify() == []


def test_too_few_results_fail_no_clip_that_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Odd, "extract", lambda self, batch: [GOOD])
    manifest = write_corpus(tmp_path / "audio", clips=4)
    assert extract(job(tmp_path, manifest, kind="odd"), "cpu").extracted == 4
    monkeypatch.setattr(Odd, "extract", lambda self, batch: [])
    with pytest.raises(UserError) as error:
        extract(job(tmp_path, manifest, "other", kind="odd"), "cpu")
    assert str(error.value) == (
        f"the extractor 'odd' ({__name__}.Odd) returned 0 results for 1 input; return one result "
        "for each input."
    )


def test_an_extractor_that_returns_nothing_or_exits_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_corpus(tmp_path / "audio", clips=2)
    monkeypatch.setattr(Odd, "extract", lambda self, batch: None)
    with pytest.raises(UserError, match=r"Odd\) returned a NoneType; return one result for each"):
        extract(job(tmp_path, manifest, kind="odd"), "cpu")
    monkeypatch.setattr(Odd, "extract", lambda self, batch: sys.exit(0))
    with pytest.raises(UserError, match=r"Odd\) ended the program \(SystemExit: 0\); raise Value"):
        extract(job(tmp_path, manifest, kind="odd"), "cpu")


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (np.ones((2, 5), np.float32), "returned shape (2, 5)"),
        (np.ones(4, np.float32), "returned shape (4,)"),
        ([[1.0] * 4], "returned a list"),
        (None, "returned a NoneType"),
        (np.full((2, 4), None), "returned arrays of Python objects"),
    ],
)
def test_an_extractor_whose_first_results_are_all_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: Any, problem: str
) -> None:
    monkeypatch.setattr(Odd, "extract", lambda self, batch: [result] * len(batch))
    manifest = write_corpus(tmp_path / "audio", clips=2)
    with pytest.raises(UserError) as error:
        extract(job(tmp_path, manifest, kind="odd"), "cpu")
    assert str(error.value) == (
        f"the extractor 'odd' ({__name__}.Odd) {problem}; return float32 arrays (frames, 4), as "
        "its item_shape is (4,)."
    )


SHAPE_REMEDY = "after load; set it to (dim,), or to (layers, dim) where every layer is kept."
RATE_REMEDY = "after load; set it in Hz, or to None in the class where frames have no fixed rate."


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("item_shape", None, f"item_shape None {SHAPE_REMEDY}"),
        ("item_shape", [4], f"item_shape [4] {SHAPE_REMEDY}"),
        ("item_shape", (4, 0), f"item_shape (4, 0) {SHAPE_REMEDY}"),
        ("item_shape", (4.0,), f"item_shape (4.0,) {SHAPE_REMEDY}"),
        ("frame_rate", 0, f"frame_rate 0 {RATE_REMEDY}"),
        ("frame_rate", "50 Hz", f"frame_rate 50 Hz {RATE_REMEDY}"),
    ],
)
def test_an_extractor_must_know_its_shape_and_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, problem: str
) -> None:
    monkeypatch.setattr(Odd, name, value)
    manifest = write_corpus(tmp_path / "audio", clips=2)
    with pytest.raises(UserError) as error:
        extract(job(tmp_path, manifest, kind="odd"), "cpu")
    assert str(error.value) == f"the extractor 'odd' ({__name__}.Odd) has the {problem}"


def test_an_extractor_of_audio_must_set_a_frame_rate_even_if_it_has_none() -> None:
    class Unset(Extractor):
        item_shape = (4,)

        def load(self, device: str) -> None:
            pass

        def extract(self, batch: Any) -> Any:
            return [GOOD for _ in batch]

    class Set(Unset):
        frame_rate = None

    options = FeatureOptions(kind="odd")
    with pytest.raises(UserError, match=r"Unset\) has the frame_rate None after load; set it"):
        load(Unset(options), "mine", "cpu")
    load(Set(options), "mine", "cpu")


ABSENT = ModuleNotFoundError("No module named 'librosa'")
INSTALL = "(ModuleNotFoundError: No module named 'librosa'); install what it imports."


@pytest.mark.parametrize(
    ("method", "error", "problem"),
    [
        ("load", KeyError("encoder"), "loaded (KeyError: 'encoder'); correct its load."),
        ("load", ValueError("two rates"), "loaded (ValueError: two rates); correct its load."),
        ("load", SystemExit(3), "loaded (SystemExit: 3); correct its load."),
        ("load", ABSENT, f"loaded {INSTALL}"),
        ("extract", ABSENT, f"run {INSTALL}"),
        ("__init__", TypeError("no window"), "built (TypeError: no window); correct its __init__."),
    ],
)
def test_the_error_of_a_users_class_names_the_class_and_the_method(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: BaseException,
    problem: str,
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Odd, method, failing)
    manifest = write_corpus(tmp_path / "audio", clips=2)
    with pytest.raises(UserError) as raised:
        extract(job(tmp_path, manifest, kind="odd"), "cpu")
    assert str(raised.value) == f"the extractor 'odd' ({__name__}.Odd) cannot be {problem}"


def test_a_sentence_of_a_users_class_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: Any, device: str) -> None:
        raise UserError("there is no table; make it.")

    monkeypatch.setattr(Odd, "load", load)
    manifest = write_corpus(tmp_path / "audio", clips=2)
    with pytest.raises(UserError, match=r"^there is no table; make it\.$"):
        extract(job(tmp_path, manifest, kind="odd"), "cpu")


def test_only_extractors_are_registered() -> None:
    with pytest.raises(
        UserError, match=r"kind 'mine': len is not a subclass of Extractor; derive it"
    ):
        extractor("mine")(len)  # type: ignore[arg-type]

    class Mine(Slow):
        Options = dict  # type: ignore[assignment]

    with pytest.raises(
        UserError, match=r"options \(builtins\.dict\) are not a subclass of FeatureOptions"
    ):
        extractor("mine")(Mine)

    class Half(Extractor):
        def load(self, device: str) -> None:
            pass

    with pytest.raises(UserError, match=r"Half\): the class does not define extract; add it\.$"):
        extractor("mine")(Half)


def test_a_decoder_that_raises_anything_fails_its_clip_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, load = write_corpus(tmp_path / "audio", clips=4), AudioSources.load
    errors = {"u00": DecoderError("bad page"), "u02": MemoryError("8 GiB")}

    def failing(sources: AudioSources, utterance: str) -> np.ndarray:
        if utterance in errors:
            raise errors[utterance]
        return load(sources, utterance)

    monkeypatch.setattr(AudioSources, "load", failing)
    report = extract(job(tmp_path, manifest), "cpu")
    assert report.extracted == 2
    assert report.failed == {"u00": "DecoderError: bad page", "u02": "MemoryError: 8 GiB"}


def test_what_no_other_clip_can_help_stops_the_extraction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_corpus(tmp_path / "audio", clips=4)
    monkeypatch.setattr(Odd, "result", UserError("the server is gone."))
    with pytest.raises(UserError, match=r"^the server is gone\.$"):
        extract(job(tmp_path, manifest, kind="odd"), "cpu")


BAD_WORDS = [
    None,
    "hello",
    Transcript("half a pair \ud800", -0.5, 0.1, "en"),
    Transcript(7, -0.5, 0.1, "en"),  # type: ignore[arg-type]
    Transcript("hello", float("nan"), 0.1, "en"),
    Transcript("hello", -0.5, None, "en"),  # type: ignore[arg-type]
    Transcript("hello", -0.5, 0.1, "en", ("hello",)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("bad", BAD_WORDS)
def test_one_bad_transcript_costs_no_other(tmp_path: Path, bad: Any) -> None:
    cache = TranscriptCache.create(tmp_path, "asr", {}, {})
    with cache.writer() as writer:
        writer.append("a", Transcript("hello", -0.5, 0.1, "en"), 1, 2)
        with pytest.raises(ValueError, match=r"transcript|surrogates|a word"):
            writer.append("b", bad, 1, 2)
        writer.append("c", Transcript("there", -0.5, 0.1, "en"), 1, 2)
    assert cache.texts(["a", "b", "c"]) == ["hello", None, "there"]


def test_a_lost_feature_json_is_written_again_and_nothing_is_extracted_again(
    tmp_path: Path,
) -> None:
    work = job(tmp_path, write_corpus(tmp_path / "audio", clips=4))
    extract(work, "cpu")
    file, before, about = opened(work).path / "feature.json", checksums(work), opened(work).metadata
    flip(file, file.read_text().index("slow"))
    with pytest.raises(UserError) as error:
        extract(work, "cpu")
    assert str(error.value) == (
        f"{file}: it is damaged (its checksum is not that of its content); delete this file and "
        "run `ser extract --all`, which keeps the frames beside it."
    )
    file.unlink()
    report = extract(work, "cpu")
    assert (report.cached, report.extracted) == (4, 0)
    assert checksums(work) == before
    again = opened(work).metadata
    assert again | {"created": 0} == about | {"created": 0}


def test_an_unreadable_clip_that_was_touched_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_corpus(tmp_path / "audio", clips=3)
    work = job(tmp_path, manifest)
    extract(work, "cpu")
    real = AudioSources.content_hash

    def denied(sources: AudioSources, utterance: str) -> int:
        if utterance == "u01":
            raise PermissionError(13, "Permission denied", "u01.wav")
        return real(sources, utterance)

    monkeypatch.setattr(AudioSources, "content_hash", denied)
    (tmp_path / "audio" / "u01.wav").touch()
    report = extract(work, "cpu")
    assert report.failed == {"u01": "[Errno 13] Permission denied: 'u01.wav'"}
    assert report.cached == 2


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "audio", clips=3)
    rows = pl.DataFrame({"utterance": ["bad"], "path": ["bad.wav"]})
    work = job(tmp_path, Manifest(pl.concat([manifest.frame, rows], how="diagonal")))
    extract(work, "cpu")

    def written() -> dict[Path, tuple[int, int]]:
        stats = {path: path.stat() for path in (tmp_path / "cache").rglob("*")}
        return {path: (stat.st_ino, stat.st_ctime_ns) for path, stat in stats.items()}

    before = written()
    report = extract(work, "cpu")
    assert (report.cached, list(report.failed)) == (3, ["bad"])
    assert written() == before


def test_a_failing_write_is_never_committed_by_a_later_one(tmp_path: Path) -> None:
    cache = FeatureCache.create(tmp_path, "x", {}, {"item_shape": [4]})
    with pytest.raises(OSError, match="an earlier write failed"), cache.writer() as writer:
        writer.append("a", GOOD)
        writer._broken = True
        writer.append("b", GOOD)
    assert cache.index().height == 0


def test_specs_have_not_changed(tmp_path: Path) -> None:
    work = job(tmp_path, write_corpus(tmp_path / "audio", clips=1), kind="prosody")
    assert full_spec(work)[0] == {"kind": "prosody", "version": 1}
