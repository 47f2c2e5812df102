from pathlib import Path

import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus

HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime\r\n"
)
ROWS = {
    "train": '1,You’ve had it.,Chandler,neutral,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"\r\n'
    '2,"Oh my God, no!",Mark,surprise,negative,0,1,8,21,"00:16:21,940","00:16:23,442"\r\n',
    "dev": '1,What?,Monica,sadness,negative,3,4,4,7,"00:20:57,256","00:21:00,049"\r\n',
    "test": '1,Yes.,Joey,joy,positive,0,0,3,19,"00:14:38,127","00:14:40,378"\r\n'
    '2,No.,Rachel,anger,negative,0,1,3,19,"00:14:40,630","00:14:41,000"\r\n',
}
CLIPS = (
    "train/train_splits/dia0_utt0.mp4",
    "train/train_splits/dia0_utt1.mp4",
    "train/train_splits/dia0_utt1.wav",
    "dev/dev_splits_complete/dia3_utt4.mp4",
    "test/output_repeated_splits_test/dia0_utt0.flac",
    "test/output_repeated_splits_test/._dia0_utt1.mp4",
    "test/output_repeated_splits_test/final_videos_testdia0_utt1.mp4",
)


def corpus(folder: Path, encoding: str = "utf-8") -> Path:
    for file in CLIPS:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    for split, rows in ROWS.items():
        (folder / f"{split}_sent_emo.csv").write_bytes((HEADER + rows).encode(encoding))
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_tables_and_clips_are_joined(tmp_path: Path, encoding: str) -> None:
    manifest = import_corpus("meld", corpus(tmp_path, encoding))
    assert manifest.classes == ("happy", "neutral", "sad", "surprise")
    columns = ["utterance", "path", "split", "speaker", "gender", "emotion", "session"]
    assert manifest.frame.select(columns).rows() == [
        ("train-dia0_utt0", CLIPS[0], "train", "meld-Chandler", "male", "neutral", "s08e21"),
        ("train-dia0_utt1", CLIPS[2], "train", "meld-Mark", None, "surprise", "s08e21"),
        ("dev-dia3_utt4", CLIPS[3], "dev", "meld-Monica", "female", "sad", "s04e07"),
        ("test-dia0_utt0", CLIPS[4], "test", "meld-Joey", "male", "happy", "s03e19"),
    ]
    assert manifest.frame["transcript"].to_list()[:2] == ["You’ve had it.", "Oh my God, no!"]
    assert manifest.notes == ("left out, as there is no clip: 1 utterance: test-dia0_utt1",)


def test_mistakes_are_reported_in_one_sentence(tmp_path: Path) -> None:
    def refusal() -> str:
        with pytest.raises(UserError) as caught:
            import_corpus("meld", tmp_path)
        return str(caught.value).replace(f"{tmp_path}", "MELD")

    assert refusal() == (
        "MELD: there is no train_sent_emo.csv in it; give the folder of MELD that has the three "
        "tables and the clips."
    )
    corpus(tmp_path)
    table = tmp_path / "train_sent_emo.csv"
    table.write_text(HEADER.replace("Season", "S") + ROWS["train"])
    assert refusal() == (
        "MELD/train_sent_emo.csv: the columns Season are missing; restore the file of the release."
    )
    table.write_text(HEADER + ROWS["train"].replace("0,0,8,21", "0,x,8,21"))
    assert refusal() == (
        "MELD/train_sent_emo.csv: 'You’ve had it.' has Dialogue_ID '0', Utterance_ID 'x', Season "
        "'8', Episode '21'; restore the file of the release."
    )
    corpus(tmp_path)
    for file in CLIPS:
        (tmp_path / file).unlink()
    assert refusal() == (
        "MELD: none of the clips is called like train_splits/dia0_utt0.mp4; unpack the archives "
        "in MELD.Raw."
    )
    table.write_text(HEADER + ROWS["train"].replace("0,0,8,21", f"{'9' * 5000},0,8,21"))
    assert refusal().startswith("MELD/train_sent_emo.csv: 'You’ve had it.' has Dialogue_ID '999")


def test_an_emotion_of_another_corpus_is_noted(tmp_path: Path) -> None:
    corpus(tmp_path)
    table = tmp_path / "train_sent_emo.csv"
    table.write_text(HEADER + ROWS["train"].replace("neutral", "calm"))
    notes = import_corpus("meld", tmp_path).notes
    assert "no class for 'calm' (1 row): MELD has no such one" in notes
