import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
from rich.console import Console

from ser.corpus.check import check, class_table, render, require_speaker_disjoint
from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus
from ser.corpus.manifest import Manifest


def row(utterance: str, **values: Any) -> dict[str, Any]:
    given = {"utterance": utterance, "path": f"{utterance}.wav", "split": "train"}
    return {**given, "speaker": f"of {utterance}", "emotion": "sad", **values}


def manifest(*rows: dict[str, Any], classes: tuple[str, ...] = ("sad",)) -> Manifest:
    return Manifest(pl.DataFrame(rows, infer_schema_length=None), classes, "m.csv")


def wave(path: Path, seconds: float = 0.2, seed: int = 0) -> None:
    signal = 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))
    soundfile.write(path, signal.astype(np.float32), 16_000, subtype="PCM_16")


def problems(rows: Manifest, folder: Path, **limits: float) -> list[tuple[str, ...]]:
    return check(rows, folder, **limits).problems.rows()  # type: ignore[arg-type]


def test_a_sound_corpus_has_no_problems(tmp_path: Path) -> None:
    for i, name in enumerate("abc"):
        wave(tmp_path / f"{name}.wav", seed=i)
    report = check(manifest(row("a"), row("b"), row("c", split="dev")), tmp_path)
    assert report.problems.is_empty()
    assert report.errors == 0
    assert report.seconds == pytest.approx(0.6)


def test_clips_that_cannot_be_used_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("words, words, words")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000, np.float32), 16_000)
    soundfile.write(
        tmp_path / "nan.wav", np.full(8000, np.nan, np.float32), 16_000, subtype="FLOAT"
    )
    wave(tmp_path / "good.wav")
    names = ("absent", "empty", "text", "silent", "nan", "good")
    assert problems(manifest(*map(row, names)), tmp_path) == [
        ("absent", "no such file", "absent.wav", "error"),
        ("empty", "empty file", "empty.wav: 0 bytes", "error"),
        ("text", "not audio", "text.wav: Format not recognised", "error"),
        ("silent", "silent", "silent.wav: all samples are zero", "error"),
        ("nan", "contains NaN or infinite samples", "nan.wav", "error"),
    ]


def test_no_clip_ends_the_check(tmp_path: Path) -> None:
    wave(tmp_path / "good.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    data = bytearray((tmp_path / "good.wav").read_bytes())
    data[24:28] = (7_000_000).to_bytes(4, "little")
    (tmp_path / "fast.wav").write_bytes(data)
    noise = np.random.default_rng(1).normal(0, 0.1, 8000)
    soundfile.write(tmp_path / "unknown.flac", noise, 16_000)
    flac = bytearray((tmp_path / "unknown.flac").read_bytes())
    flac[21:26] = bytes((flac[21] & 0xF0, 0, 0, 0, 0))  # a STREAMINFO that states no length
    (tmp_path / "unknown.flac").write_bytes(flac)
    (tmp_path / "cut.flac").write_bytes(flac[:6000])
    names = ("pipe.wav", "folder.wav", "fast.wav", "null\0.wav", "cut.flac", "unknown.flac")
    rows = [row(str(i), path=name) for i, name in enumerate([*names, "good.wav"])]
    assert [problem[:2] for problem in problems(manifest(*rows), tmp_path)] == [
        ("0", "not a regular file"),
        ("1", "is a folder"),
        ("2", "not audio"),
        ("3", "no such file"),
        ("4", "cut short"),
    ]


def test_senseless_signals_are_warnings(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    signals = {
        "cancels": np.stack([noise, -0.99 * noise], axis=1),
        "constant": np.full(16_000, 0.3),
        "integers": 20_000 * noise,
        "clipped": np.clip(40 * noise, -0.9, 0.9),
        "whisper": 1e-5 * noise,
        "good": noise[::-1],
    }
    for name, signal in signals.items():
        soundfile.write(tmp_path / f"{name}.wav", signal, 16_000, subtype="FLOAT")
    listed = problems(manifest(*map(row, signals)), tmp_path)
    assert {severity for *_, severity in listed} == {"warning"}
    assert {(utterance, problem) for utterance, problem, *_ in listed} >= {
        ("cancels", "channels cancel"),
        ("constant", "constant"),
        ("integers", "not at full scale 1"),
        ("clipped", "mostly clipped"),
        ("whisper", "nearly silent"),
    }
    assert "good" not in {utterance for utterance, *_ in listed}


def test_opposed_channels_are_an_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    signal = np.stack([noise, -noise], axis=1)
    soundfile.write(tmp_path / "opposed.wav", signal, 16_000, subtype="FLOAT")
    [(utterance, problem, *_, severity)] = problems(manifest(row("opposed")), tmp_path)
    assert (utterance, problem, severity) == ("opposed", "channels cancel", "error")


def test_unusual_lengths_are_warnings(tmp_path: Path) -> None:
    wave(tmp_path / "short.wav", 0.05)
    wave(tmp_path / "long.wav", 1.5, seed=1)
    rows = manifest(
        row("short"),
        row("long"),
        row("cut", path="long.wav", start=1.0, end=2.0),
        row("inside", path="long.wav", start=1.0, end=1.4),
    )
    assert problems(rows, tmp_path, longest=1.0) == [
        ("short", "too short", "0.050 s, less than 0.1 s", "warning"),
        ("long", "too long", "1.5 s, more than 1 s", "warning"),
        (
            "cut",
            "cut by the end of its file",
            "end is 2 s, but the audio stops 0.50 s from start",
            "warning",
        ),
    ]
    assert problems(manifest(row("short")), tmp_path, shortest=0.05) == []


def test_the_same_audio_twice_is_a_warning_within_a_split_and_an_error_across(
    tmp_path: Path,
) -> None:
    wave(tmp_path / "a.wav")
    signal, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    for name in ("b.flac", "c.wav", "d.wav"):
        soundfile.write(tmp_path / name, signal, rate)
    rows = manifest(row("a"), row("b", path="b.flac"), row("c", split="dev"), row("d", split=""))
    assert problems(rows, tmp_path) == [
        ("c", "duplicate audio", "dev, and in train as 'a'", "error"),
        ("b", "duplicate audio", "same as 'a'", "warning"),
        ("d", "duplicate audio", "same as 'a'", "warning"),
    ]


def test_a_copy_outside_every_split_does_no_harm(tmp_path: Path) -> None:
    wave(tmp_path / "a.wav")
    rows = manifest(row("first", path="a.wav", split=""), row("second", path="a.wav"))
    assert problems(rows, tmp_path) == [("second", "duplicate audio", "same as 'first'", "warning")]


def test_segments_of_one_file_are_not_duplicates(tmp_path: Path) -> None:
    wave(tmp_path / "a.wav", 1.0)
    rows = manifest(row("first", path="a.wav", end=0.5), row("second", path="a.wav", start=0.5))
    assert problems(rows, tmp_path) == []


def test_a_speaker_in_two_splits_is_an_error_and_one_in_none_is_not(tmp_path: Path) -> None:
    for i, name in enumerate("abcd"):
        wave(tmp_path / f"{name}.wav", seed=i)
    rows = manifest(
        row("a", speaker="x", split="test"),
        row("b", speaker="x"),
        row("c", speaker="y"),
        row("d", speaker="y", split=""),
    )
    assert problems(rows, tmp_path) == [
        ("a", "speaker in two splits", "speaker 'x' is in train and test", "error")
    ]
    with pytest.raises(UserError) as caught:
        require_speaker_disjoint(rows)
    assert str(caught.value) == (
        "m.csv: speaker 'x' is in train and test, so scores would be too good; "
        "move all of a speaker's utterances to one split."
    )


def test_unknown_speakers_pass_but_are_warned_of_once_a_split(tmp_path: Path) -> None:
    for i, name in enumerate("abc"):
        wave(tmp_path / f"{name}.wav", seed=i)
    rows = manifest(
        row("a", speaker=None), row("b", speaker=""), row("c", speaker=None, split="dev")
    )
    require_speaker_disjoint(rows)
    assert problems(rows, tmp_path) == [
        ("a", "unknown speaker", "the first of 2 in train", "warning"),
        ("c", "unknown speaker", "the first of 1 in dev", "warning"),
    ]


def test_a_class_without_training_utterance_is_an_error(tmp_path: Path) -> None:
    for i, name in enumerate("ab"):
        wave(tmp_path / f"{name}.wav", seed=i)
    rows = manifest(row("a"), row("b", emotion="fear", split="dev"), classes=("sad", "fear"))
    assert problems(rows, tmp_path) == [
        ("", "class without training utterance", "class 'fear'", "error")
    ]


def test_a_corpus_without_train_split_is_only_scored(tmp_path: Path) -> None:
    wave(tmp_path / "a.wav")
    assert problems(manifest(row("a", split="test")), tmp_path) == []


def test_the_class_table_keeps_class_order_and_counts_the_unlabelled() -> None:
    rows = manifest(
        row("a", emotion="sad"),
        row("b", emotion="sad", split="dev"),
        row("c", emotion=None),
        row("d", emotion="fear", split=""),
        classes=("surprise", "sad", "fear"),
    )
    table = class_table(rows)
    assert table.columns == ["class", "train", "dev", "test", "unsplit", "total"]
    assert table.rows() == [
        ("surprise", 0, 0, 0, 0, 0),
        ("sad", 1, 1, 0, 0, 2),
        ("fear", 0, 0, 0, 1, 1),
        ("(none)", 1, 0, 0, 0, 1),
    ]


def test_a_missing_audio_folder_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check(manifest(row("a")), tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path / 'none'}: there is no such audio folder; set corpus.audio in pipeline.yaml "
        "to the folder that the paths in m.csv start from."
    )


def test_render_shows_ids_as_they_are_and_limits_examples(tmp_path: Path) -> None:
    names = [f"[red]{i}" for i in range(5)]
    console = Console(width=120, record=True, file=(tmp_path / "out.txt").open("w"))
    render(check(manifest(*map(row, names)), tmp_path), console, examples=2)
    text = console.export_text()
    assert "Problems (5 errors, 0 warnings)" in text
    assert "[red]0" in text
    assert "[red]1" in text
    assert "[red]2" not in text
    assert "… and 3 more" in text


def test_render_reports_that_nothing_is_wrong(tmp_path: Path) -> None:
    wave(tmp_path / "a.wav")
    console = Console(width=120, record=True, file=(tmp_path / "out.txt").open("w"))
    render(check(manifest(row("a")), tmp_path), console)
    assert "No problems found." in console.export_text()


@pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")
@pytest.mark.slow  # 89 minutes of audio
def test_ravdess_holds_one_clip_twice_and_nothing_else_is_wrong() -> None:
    folder = Path(os.environ["SER_SHARED"]) / "corpora" / "ravdess"
    report = check(import_corpus("ravdess", folder), folder)
    assert report.problems.rows() == [
        ("03-01-03-01-02-02-07", "duplicate audio", "same as '03-01-03-01-02-01-07'", "warning")
    ]
    assert report.classes["train"].to_list() == [64, *[128] * 7, 0]
    assert report.seconds / 60 == pytest.approx(88.8, abs=1)


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    wave(tmp_path / "a.wav")
    names = ("[/noise]", "[noise]", "[link=x]", "[[", "\\[b]")
    rows = manifest(*(row(f"u{i}", emotion=n) for i, n in enumerate(names)), classes=names)
    console = Console(width=120, record=True)
    render(check(rows, tmp_path), console)
    shown = console.export_text()
    assert [name for name in names if f"│ {name} " not in shown] == []


def test_a_class_called_none_is_counted_apart() -> None:
    unlabelled = (row("b", emotion=None), row("c", emotion=None))
    rows = manifest(row("a", emotion="(none)"), *unlabelled, classes=("(none)",))
    assert class_table(rows).select("class", "total").rows() == [("(none)", 1), ("((none))", 2)]


def test_a_sample_is_decoded_and_every_label_is_checked(tmp_path: Path) -> None:
    for i in range(5):
        wave(tmp_path / f"{i}.wav", seed=i)
    (tmp_path / "2.wav").unlink()
    rows = manifest(*(row(str(i), speaker="one") for i in range(4)), row("4", split="dev"))
    report = check(rows, tmp_path, sample=3)
    assert report.problems.rows() == [("2", "no such file", "2.wav", "error")]
    assert (report.decoded, report.classes["total"].sum()) == (3, 5)
    console = Console(width=100, record=True)
    render(report, console)
    assert console.export_text().startswith("3 of 5 clips were decoded, evenly spaced.\n")
    rows = manifest(row("0"), row("1"), row("4", split="dev", speaker="of 1"))
    problem = ("4", "speaker in two splits", "speaker 'of 1' is in train and dev", "error")
    assert check(rows, tmp_path, sample=2).problems.rows() == [problem]
    assert check(rows, tmp_path, sample=3).decoded == 3
