import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from ser.corpus.errors import UserError
from ser.corpus.importers import hf
from ser.corpus.importers.hf import read_batches
from ser.corpus.importers.registry import import_corpus

WORDS = pl.DataFrame({"word": [f"w{i % 3}" for i in range(50)], "data": [bytes(99)] * 50})
FEATURES = {
    "audio": {"_type": "Audio"},
    "label": {"names": ["sad", "angry"], "_type": "ClassLabel"},
    "who": {"dtype": "string", "_type": "Value"},
}


def encoded(kind: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(160, 0.1), 16000, format=kind)
    return buffer.getvalue()


def rows(count: int, path: str | None = "/etc/x.wav", data: bytes | None = b"?") -> pl.DataFrame:
    kinds = ("WAV", "FLAC", "OGG")
    audio = [
        {"bytes": encoded(kinds[i % 3]) if data == b"?" else data, "path": path}
        for i in range(count)
    ]
    return pl.DataFrame(
        {
            "audio": audio,
            "label": [i % 2 for i in range(count)],
            "who": [f"s{i}" for i in range(count)],
            "path": ["no/path.wav"] * count,
            "tags": [["a"]] * count,
        },
        schema_overrides={"audio": pl.Struct({"bytes": pl.Binary, "path": pl.String})},
    )


def saved_to_disk(folder: Path) -> Path:
    """Write what `DatasetDict.save_to_disk` writes: a folder a split, Arrow streams in it."""
    for split, shards in {"train": [2, 1], "validation": [1], "test": [3]}.items():
        (folder / split).mkdir(parents=True)
        for i, count in enumerate(shards):
            name = f"data-{i:05d}-of-{len(shards):05d}.arrow"
            rows(count).write_ipc_stream(folder / split / name)
        (folder / split / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
        (folder / split / "state.json").write_text(json.dumps({"_data_files": []}))
    return folder


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        import_corpus("hf", folder, **options)
    return str(caught.value).replace(f"{folder}", "DATA")


def test_a_saved_data_set_is_written_out(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    options = {"clips": clips, "emotion": "label", "speaker": "who"}
    manifest = import_corpus("hf", saved_to_disk(tmp_path / "data"), **options)
    columns = ["utterance", "path", "split", "speaker", "emotion"]
    assert manifest.frame.select(columns).rows() == [
        ("test-000000", "test-000000.wav", "test", "s0", "sad"),
        ("test-000001", "test-000001.flac", "test", "s1", "angry"),
        ("test-000002", "test-000002.ogg", "test", "s2", "sad"),
        ("train-000000", "train-000000.wav", "train", "s0", "sad"),
        ("train-000001", "train-000001.flac", "train", "s1", "angry"),
        ("train-000002", "train-000002.wav", "train", "s0", "sad"),
        ("dev-000000", "dev-000000.wav", "dev", "s0", "sad"),
    ]
    assert manifest.audio == clips
    assert sorted(path.name for path in clips.iterdir()) == sorted(manifest.frame["path"])
    assert (clips / "test-000001.flac").read_bytes() == encoded("FLAC")
    assert manifest.notes[0] == f"7 clips written to {clips}"


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    for name, count in (("train-00000-of-00001", 1), ("more", 1)):
        rows(count).write_parquet(folder / f"{name}.parquet", metadata=metadata)
    options = {"clips": tmp_path / "clips", "emotions": {"sad": "sadness"}, "emotion": "label"}
    manifest = import_corpus("hf", folder, **options)
    assert manifest.frame.select("utterance", "split", "emotion").rows() == [
        ("row-000000", "", "sadness"),
        ("train-000000", "train", "sadness"),
    ]
    plain = rows(2).with_columns(pl.col("audio").struct.field("bytes").alias("wave"))
    plain.write_parquet(folder / "more.parquet")
    (folder / "train-00000-of-00001.parquet").unlink()
    manifest = import_corpus(
        "hf", folder, audio="wave", clips=tmp_path / "clips", utterance="who", emotion="label"
    )
    assert manifest.frame.select("utterance", "path", "emotion").rows() == [
        ("s0", "row-000000.wav", "0"),
        ("s1", "row-000001.flac", "1"),
    ]


def test_paths_stay_within_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.wav").touch()
    path = folder / "train.parquet"
    rows(1, "sub/../sub/a.wav", data=None).write_parquet(path)
    manifest = import_corpus("hf", folder)
    assert manifest.frame.select("path", "split").rows() == [("sub/a.wav", "train")]
    assert manifest.audio == folder
    rows(1, str(folder / "sub" / "a.wav"), data=None).write_parquet(path)
    assert import_corpus("hf", folder).frame["path"].to_list() == ["sub/a.wav"]
    for outside in ("../x.wav", "/etc/passwd"):
        rows(1, outside, data=None).write_parquet(path)
        assert refusal(folder) == (
            f"DATA: the audio of train-000000 is '{outside}', which is outside the folder; copy "
            "the audio into it, or save the data set with the audio in it."
        )


def test_rows_without_audio_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    pl.concat([rows(1), rows(2, None, None)]).write_parquet(folder / "a.parquet")
    manifest = import_corpus("hf", folder, clips=tmp_path / "clips")
    assert len(manifest) == 1
    assert "left out, without audio: 2 rows" in manifest.notes
    rows(1, None, None).write_parquet(folder / "a.parquet")
    assert refusal(folder) == (
        "DATA: no row has audio; name its column with `--option audio=COLUMN`."
    )


def test_mistakes_are_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, clips = tmp_path / "data", tmp_path / "clips"
    folder.mkdir()
    assert refusal(folder).startswith("DATA: there is no .arrow and no .parquet file in it; give")
    rows(1).write_parquet(folder / "a.parquet")
    assert refusal(folder) == (
        "DATA: the audio is within the files; name a folder to write it to with clips=FOLDER."
    )
    assert refusal(folder, audio="wave") == (
        "DATA/a.parquet: there is no column 'wave' for the audio; name it with "
        "`--option audio=COLUMN`; the "
        "columns are: audio, label, who, path, tags."
    )
    assert refusal(folder, audio="label").startswith("DATA/a.parquet: a cell of the audio is of")
    rows(1, data=b"\x80\x04pickle").write_parquet(folder / "a.parquet")
    assert refusal(folder, clips=clips).startswith(
        "DATA: the audio of row-000000 is not a wav, flac,"
    )
    assert not clips.exists()
    rows(3).write_parquet(folder / "a.parquet")
    monkeypatch.setattr("ser.corpus.importers.clips.EXPANSION", 0)
    assert "makes the clips larger than such files can have" in refusal(folder, clips=clips)
    (folder / "a.parquet").write_bytes(b"PAR1 no")
    assert refusal(folder).startswith("DATA/a.parquet: not readable (")
    (folder / "a.parquet").unlink()
    (folder / "b.arrow").write_bytes(b"no")
    assert refusal(folder).startswith("DATA/b.arrow: not readable (")
    (folder / "state.json").write_text('{"_indices_files": [{"filename": "i.arrow"}]}')
    assert refusal(folder).startswith("DATA: it is a selection of rows of another data set; save")


def test_columns_of_any_type(tmp_path: Path) -> None:
    folder, clips = tmp_path / "data", tmp_path / "clips"
    folder.mkdir()
    audio = rows(2).select("audio")
    audio.write_parquet(folder / "a.parquet")
    assert len(import_corpus("hf", folder, clips=clips)) == 2
    words = pl.Series("emotion", ["sad", "ok"], dtype=pl.Categorical)
    audio.with_columns(words).write_parquet(folder / "a.parquet")
    manifest = import_corpus("hf", folder, clips=clips)
    assert manifest.frame["emotion"].to_list() == ["sad", "ok"]
    several = pl.Series("emotion", [["sad"], ["ok", "sad"]])
    audio.with_columns(several).write_parquet(folder / "a.parquet")
    assert refusal(folder, clips=clips) == (
        "DATA: the column 'emotion' is of type List(String); write it as text."
    )
    decoded = pl.DataFrame({"audio": [{"array": [0.5], "sampling_rate": 16_000}]})
    decoded.write_parquet(folder / "a.parquet")
    assert refusal(folder, clips=clips).startswith(
        "DATA/a.parquet: a cell of the audio has the fields array, sampling_rate, neither bytes nor"
    )


@pytest.mark.parametrize("path", ["a\0b.wav", "a" * 5000])
def test_a_path_that_no_file_system_takes_is_refused(tmp_path: Path, path: str) -> None:
    rows(1, path, data=None).write_parquet(tmp_path / "a.parquet")
    assert refusal(tmp_path).endswith("': no file system takes this path; shorten it.")


def test_parquet_is_read_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    WORDS.write_parquet(path, row_group_size=7)
    assert [len(frame) for frame in read_batches(path)] == [50]
    monkeypatch.setattr(hf, "BATCH", path.stat().st_size // 4)
    frames = list(read_batches(path))
    assert [len(frame) for frame in frames] == [12, 12, 12, 12, 2]
    assert pl.concat(frames).equals(WORDS)


def test_a_stream_is_one_batch(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    WORDS.write_ipc_stream(path)
    assert pl.concat(read_batches(path)).equals(WORDS)
    WORDS.clear().write_ipc_stream(path)
    (frame,) = read_batches(path)
    assert frame.schema == WORDS.schema
    assert frame.is_empty()


def test_a_stream_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    WORDS.head(2).write_ipc_stream(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"a.arrow: not readable \(.*; fetch or save it again"):
        list(read_batches(path))


def test_a_stream_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.arrow"
    WORDS.write_ipc_stream(path)
    monkeypatch.setattr(hf, "LARGEST_STREAM", 1000)
    with pytest.raises(UserError, match="and the limit is 1,000; save the data set again, in"):
        list(read_batches(path))
