import sys
from pathlib import Path

import polars as pl
import pytest
import soundfile

from ser.corpus.config import MSP_CLASSES
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.synthetic.sentences import ANYONE, SENTENCES
from ser.synthetic.speech import VOICES, synthesize

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    synthesize(folder, speakers=5, per_class=2)
    return folder


def audio(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "audio").iterdir()}


def test_manifest_has_every_class_of_every_speaker(folder: Path) -> None:
    manifest = Manifest.read(folder / "manifest.parquet", MSP_CLASSES)
    counts = manifest.frame.group_by("speaker", "emotion").len()
    assert manifest.classes == MSP_CLASSES
    assert counts.height == 5 * 8
    assert set(counts["len"]) == {2}


def test_splits_share_no_speaker(folder: Path) -> None:
    frame = Manifest.read(folder / "manifest.parquet", MSP_CLASSES).frame
    speakers = frame.group_by("split").agg(pl.col("speaker").unique().sort())
    assert {split: list(names) for split, names in speakers.iter_rows()} == {
        "train": ["speaker01", "speaker02", "speaker03"],
        "dev": ["speaker04"],
        "test": ["speaker05"],
    }


def test_clips_are_speech_of_one_to_five_seconds(folder: Path) -> None:
    for path in (folder / "audio").iterdir():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (22_050, 1, "PCM_16")
        assert 1.0 < info.duration < 5.0
        samples, _ = soundfile.read(path)
        assert 0.05 < abs(samples).max() < 1.0


def test_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    synthesize(tmp_path, speakers=5, per_class=2)
    assert audio(tmp_path) == audio(folder)


def test_another_seed_gives_other_words_and_other_bytes(folder: Path, tmp_path: Path) -> None:
    other = synthesize(tmp_path, speakers=5, per_class=2, seed=1)
    manifest = Manifest.read(folder / "manifest.parquet", MSP_CLASSES)
    assert other.utterances() == manifest.utterances()
    assert not other.frame["transcript"].equals(manifest.frame["transcript"])
    assert audio(tmp_path).keys() == audio(folder).keys()
    assert audio(tmp_path) != audio(folder)


def test_second_call_speaks_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    synthesize(folder, speakers=5, per_class=2)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_speech_of_an_earlier_version_gets_its_mark_and_keeps_its_clips(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    manifest = synthesize(tmp_path, speakers=5, per_class=1)
    assert manifest.synthetic_share(manifest.utterances()) == 1.0
    pl.read_parquet(path).drop("synthetic").write_parquet(path)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "audio").iterdir()}
    synthesize(tmp_path, speakers=5, per_class=1)
    assert Manifest.read(path, MSP_CLASSES).frame.equals(manifest.frame)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "audio").iterdir()} == before


def test_lost_clip_is_spoken_again(tmp_path: Path) -> None:
    synthesize(tmp_path, speakers=5, per_class=1)
    whole = audio(tmp_path)
    next((tmp_path / "audio").iterdir()).unlink()
    synthesize(tmp_path, speakers=5, per_class=1)
    assert audio(tmp_path) == whole


def test_words_depend_on_the_emotion_but_not_always(tmp_path: Path) -> None:
    frame = synthesize(tmp_path, speakers=5, per_class=8).frame
    own = [text in SENTENCES[emotion] for emotion, text in frame[["emotion", "transcript"]].rows()]
    assert 0.45 < sum(own) / len(own) < 0.65
    assert 0.25 < frame["transcript"].is_in(ANYONE).mean() < 0.45  # type: ignore[operator]


def test_voices_are_distinct_and_half_are_women() -> None:
    assert len({voice.voice for voice in VOICES}) == len(VOICES)
    assert [voice.gender for voice in VOICES[:4]] == ["female", "male"] * 2


@pytest.mark.parametrize("speakers", [4, len(VOICES) + 1])
def test_impossible_number_of_speakers(tmp_path: Path, speakers: int) -> None:
    with pytest.raises(UserError) as raised:
        synthesize(tmp_path, speakers=speakers)
    assert str(raised.value) == (
        f"demo: {speakers} speakers are not possible; use 5 to 20, so that every split has one."
    )


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError) as raised:
        synthesize(tmp_path)
    assert str(raised.value) == (
        "demo: espeakng-loader, which speaks the demo corpus, is not installed; run "
        "`pip install 'ser-pipeline[demo]'`."
    )
    assert not (tmp_path / "manifest.parquet").exists()
