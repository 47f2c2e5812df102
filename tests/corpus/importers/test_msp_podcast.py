import json
from pathlib import Path

import polars as pl
import pytest

from ser.corpus.config import MSP_CLASSES
from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus

CONSENSUS = """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
MSP-PODCAST_0001_0008.wav,A,5.2,1.8,5.0,127,Male,Train
MSP-PODCAST_0002_0033.wav,X,4.0,4.0,4.0,Unknown,Unknown,Development
MSP-PODCAST_0003_0001.wav,O,3.0,4.5,4.0,0129,Female,Test1
MSP-PODCAST_0004_0001.wav,U,3.0,4.5,4.0,130,Female,Test3
"""
RATINGS = [  # file, worker, first choice, further choices
    ("MSP-PODCAST_0001_0008.wav", "WORKER01", "Angry", "Angry,Frustrated"),
    ("MSP-PODCAST_0001_0008.wav", "WORKER02", "Angry", ""),
    ("MSP-PODCAST_0001_0008.wav", "WORKER03", "Other-Annoyed, a bit", "Annoyed,Other-fed up"),
    ("MSP-PODCAST_0002_0033.wav", "WORKER01", "Fear", "Concerned"),
    ("MSP-PODCAST_0002_0033.wav", "WORKER02", "Neutral", "Neutral"),
]


def corpus(folder: Path, consensus: str = CONSENSUS) -> Path:
    for name in ("Labels", "Audios", "Transcripts"):
        (folder / name).mkdir()
    (folder / "Labels" / "labels_consensus.csv").write_text(consensus)
    (folder / "Transcripts" / "MSP-PODCAST_0001_0008.txt").write_text("Get out, now!\n")
    return folder


def columns_of_2_0(folder: Path) -> None:
    names = ["FileName", "WorkerID", "EmoClass_Major", "EmoClass_Second"]
    table = pl.DataFrame(RATINGS, schema=names, orient="row")
    table.with_columns(EmoAct=5).write_csv(folder / "Labels" / "labels_detailed.csv")


def text_of_1_12(folder: Path) -> None:
    rows = [
        (file, "; ".join([worker, first, *filter(None, [second]), "A:5.0", "V:2.0", "D:4.0"]) + ";")
        for file, worker, first, second in RATINGS
    ]
    table = pl.DataFrame(rows, schema=["FileName", "EmoDetail"], orient="row")
    table.write_csv(folder / "Labels" / "labels_detailed.csv")


def json_by_worker(folder: Path) -> None:
    document: dict[str, dict[str, dict[str, str]]] = {}
    for file, worker, first, second in RATINGS:
        answers = {"EmoClass_Major": first, "EmoClass_Second": second, "EmoAct": "5"}
        document.setdefault(file, {})[worker] = answers
    (folder / "Labels" / "labels_detailed.json").write_text(json.dumps(document))


def json_with_a_list(folder: Path) -> None:
    document: dict[str, dict[str, list[dict[str, str]]]] = {}
    for file, worker, first, second in RATINGS:
        answers = {"Name": worker, "EmoClass_Major": first, "EmoClass_Second": second}
        document.setdefault(file, {"Workers": []})["Workers"].append(answers)
    (folder / "Labels" / "labels_detailed.json").write_text(json.dumps(document))


def test_consensus_becomes_rows(tmp_path: Path) -> None:
    manifest = import_corpus("msp-podcast", corpus(tmp_path))
    assert manifest.classes == MSP_CLASSES
    columns = ["utterance", "split", "speaker", "gender", "emotion", "arousal", "valence"]
    assert manifest.frame.select(columns).rows() == [
        ("MSP-PODCAST_0001_0008", "train", "127", "male", "angry", 5.2, 1.8),
        ("MSP-PODCAST_0002_0033", "dev", None, None, None, 4.0, 4.0),
        ("MSP-PODCAST_0003_0001", "", "0129", "female", None, 3.0, 4.5),
        ("MSP-PODCAST_0004_0001", "test", "130", "female", "surprise", 3.0, 4.5),
    ]
    assert manifest.frame["path"][0] == "Audios/MSP-PODCAST_0001_0008.wav"
    assert manifest.frame["transcript"].to_list() == ["Get out, now!", None, None, None]
    assert not [name for name in manifest.frame.columns if name.startswith("votes")]


def test_an_option_chooses_the_test_set(tmp_path: Path) -> None:
    frame = import_corpus("msp-podcast", corpus(tmp_path), test="Test1").frame
    assert frame["split"].to_list() == ["train", "dev", "test", ""]


@pytest.mark.parametrize("write", [columns_of_2_0, text_of_1_12, json_by_worker, json_with_a_list])
def test_every_published_shape_of_the_ratings_gives_the_same_votes(
    tmp_path: Path, write: object
) -> None:
    write(corpus(tmp_path))  # type: ignore[operator]
    frame = import_corpus("msp-podcast", tmp_path).frame
    first = ["votes.angry", "votes.fear", "votes.neutral", "votes.sad", "votes.other"]
    assert frame.select(first).rows() == [(2, 0, 0, 0, 1), (0, 1, 1, 0, 0), *[(None,) * 5] * 2]
    further = [f"votes2.{n}" for n in ("angry", "frustrated", "annoyed", "concerned", "neutral")]
    assert frame.select(further).rows()[:2] == [(1, 1, 1, 0, 0), (0, 0, 0, 1, 1)]
    assert frame["votes2.other"].to_list() == [1, 0, None, None]
    assert len([name for name in frame.columns if name.startswith("votes.")]) == 9
    assert len([name for name in frame.columns if name.startswith("votes2.")]) == 17


def test_votes_are_first_and_further_choices_of_the_classes(tmp_path: Path) -> None:
    text_of_1_12(corpus(tmp_path))
    manifest = import_corpus("msp-podcast", tmp_path)
    ids = ["MSP-PODCAST_0002_0033", "MSP-PODCAST_0001_0008"]
    first = manifest.votes(ids)
    assert first.tolist() == [[0, 0, 0, 0, 1, 0, 0, 1, 0], [2, 0, 0, 0, 0, 0, 0, 0, 1]]
    further = manifest.votes(ids, "votes2.")  # concerned; frustrated, annoyed and other
    assert further.tolist() == [[0, 0, 0, 0, 0, 0, 0, 1, 1], [1, 0, 0, 0, 0, 0, 0, 0, 3]]


def test_other_becomes_a_class_with_its_votes(tmp_path: Path) -> None:
    columns_of_2_0(corpus(tmp_path))
    manifest = import_corpus("msp-podcast", tmp_path, other="class")
    assert manifest.classes == (*MSP_CLASSES, "other")
    emotions = dict(zip(manifest.frame["utterance"], manifest.frame["emotion"], strict=True))
    assert emotions["MSP-PODCAST_0003_0001"] == "other"
    assert emotions["MSP-PODCAST_0002_0033"] is None  # no agreement
    votes = manifest.votes(["MSP-PODCAST_0001_0008"])
    assert votes.tolist() == [[2, 0, 0, 0, 0, 0, 0, 0, 1, 0]]
    further = manifest.votes(["MSP-PODCAST_0001_0008"], "votes2.")  # and frustrated, annoyed
    assert further.tolist() == [[1, 0, 0, 0, 0, 0, 0, 0, 1, 2]]
    with pytest.raises(UserError, match="other"):
        import_corpus("msp-podcast", tmp_path, other="yes")


def test_files_without_labels_come_from_partitions_and_from_the_audio(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    (folder / "Partitions.txt").write_text(
        "Train; MSP-PODCAST_0001_0008.wav\nTest2; MSP-PODCAST_0009_0001.wav\n"
    )
    (folder / "Audios" / "MSP-PODCAST_test3_0001.wav").touch()
    manifest = import_corpus("msp-podcast", folder)
    columns = ["utterance", "split", "emotion", "speaker", "arousal"]
    assert manifest.frame.select(columns).rows()[4:] == [
        ("MSP-PODCAST_0009_0001", "", None, None, None),
        ("MSP-PODCAST_test3_0001", "test", None, None, None),
    ]


def test_partitions_give_the_splits_that_labels_lack(tmp_path: Path) -> None:
    lines = [line.rpartition(",")[0] for line in CONSENSUS.splitlines()]
    folder = corpus(tmp_path, "\n".join(lines))
    (folder / "Partitions.txt").write_text(
        "Train; MSP-PODCAST_0002_0033.wav\nValidation;MSP-PODCAST_0001_0008.wav\n"
    )
    frame = import_corpus("msp-podcast", folder).frame
    assert frame["split"].to_list() == ["dev", "train", "", ""]


def test_broken_files_are_reported_in_one_sentence(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    (folder / "Labels" / "labels_detailed.json").write_text("[not json")
    with pytest.raises(UserError) as caught:
        import_corpus("msp-podcast", folder)
    assert str(caught.value).startswith(
        f"{folder / 'Labels' / 'labels_detailed.json'}: not the ratings of MSP-Podcast ("
    )
    (folder / "Labels" / "labels_consensus.csv").write_text("FileName,EmoClass\na.wav,A\n")
    with pytest.raises(UserError) as caught:
        import_corpus("msp-podcast", folder)
    assert str(caught.value) == (
        f"{folder / 'Labels' / 'labels_consensus.csv'}: the columns EmoAct, EmoVal, EmoDom, "
        "SpkrID, Gender are missing; restore the file of the release."
    )


def test_a_folder_of_something_else_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        import_corpus("msp-podcast", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'Labels' / 'labels_consensus.csv'}: there is no such file; "
        "give the MSP-Podcast folder that contains Labels (labels_consensus or labels_concensus, "
        ".csv or .json) and Audios."
    )


def notes(folder: Path, **options: str) -> list[str]:
    return list(import_corpus("msp-podcast", folder, **options).notes)


def test_the_layout_of_1_6_is_read(tmp_path: Path) -> None:
    old = CONSENSUS.replace("Development", "Validation").replace("Test3", "Test2")
    folder = corpus(tmp_path, old)
    (folder / "Labels" / "labels_consensus.csv").rename(folder / "Labels" / "labels_concensus.csv")
    json_by_worker(folder)
    manifest = import_corpus("msp-podcast", folder, test="Test1")
    assert manifest.frame["split"].to_list() == ["train", "dev", "test", ""]
    assert manifest.column("votes.angry", ["MSP-PODCAST_0001_0008"]) == [2]
    assert manifest.notes == ()
    assert notes(folder) == [
        "no file is in Test3, so the test split is empty; this release has Test1 and Test2: "
        "use test=Test1"
    ]


@pytest.mark.parametrize("listed", [False, True])
def test_the_layout_of_1_9_is_read(tmp_path: Path, listed: bool) -> None:
    names, *rows = (line.split(",") for line in CONSENSUS.splitlines())
    labels = {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in rows}
    labels[rows[0][0]]["EmoAct"] = 5.2  # type: ignore[assignment]
    (tmp_path / "label").mkdir()
    document = {file: [cells] if listed else cells for file, cells in labels.items()}
    (tmp_path / "label" / "labels_concensus.json").write_text(json.dumps(document))
    for name in ("MSP-PODCAST_0001/MSP-PODCAST_0001_0008.wav", "b/MSP-PODCAST_0003_0001.wav"):
        (tmp_path / "Audio" / name).parent.mkdir(parents=True)
        (tmp_path / "Audio" / name).touch()
    frame = import_corpus("msp-podcast", tmp_path).frame
    assert frame.select("split", "speaker", "emotion", "arousal").rows()[:2] == [
        ("train", "127", "angry", 5.2),
        ("dev", None, None, 4.0),
    ]
    assert frame["path"].to_list() == [
        "Audio/MSP-PODCAST_0001/MSP-PODCAST_0001_0008.wav",
        "Audio/MSP-PODCAST_0002_0033.wav",
        "Audio/b/MSP-PODCAST_0003_0001.wav",
        "Audio/MSP-PODCAST_0004_0001.wav",
    ]


def test_labels_that_a_spreadsheet_saved_again_are_the_same(tmp_path: Path) -> None:
    expected = import_corpus("msp-podcast", corpus(tmp_path)).frame
    text = (
        CONSENSUS.replace(",", ";").replace("Split_Set", " split_set ").replace("Train", "train ")
    )
    text = text.replace("5.2;1.8", "5,2;1.8").replace("5,2", "5.2")
    path = tmp_path / "Labels" / "labels_consensus.csv"
    path.write_bytes((text + ";;;;;;;\n").replace("\n", "\r").encode("utf-8-sig"))
    assert import_corpus("msp-podcast", tmp_path).frame.equals(expected)


def test_words_without_meaning_are_reported(tmp_path: Path) -> None:
    text = CONSENSUS.replace("Train", "Training2").replace("4.0,4.0,Unknown", "4.0,4.0,unknown ")
    folder = corpus(tmp_path, text.replace("0001.wav,U", "0001.wav,u").replace("wav,O", "wav,Q"))
    assert notes(folder) == [
        "unknown Split_Set, imported without a split: 'Training2' (1 row)",
        "unknown EmoClass, imported without a class: 'Q' (1 row)",
    ]
    frame = import_corpus("msp-podcast", folder).frame
    assert frame["split"].to_list() == ["", "dev", "", "test"]
    assert frame["emotion"].to_list() == ["angry", None, None, "surprise"]
    assert frame["speaker"].to_list()[:2] == ["127", None]


@pytest.mark.parametrize("name", ["Partitions.txt", "Partition.txt"])
def test_either_list_of_partitions_fills_what_labels_leave_out(tmp_path: Path, name: str) -> None:
    folder = corpus(tmp_path, CONSENSUS.replace("Train", ""))
    lines = "Train ; MSP-PODCAST_0001_0008.wav\r\nTest1; MSP-PODCAST_0002_0033.wav\r\n"
    (folder / name).write_bytes(lines.encode("utf-8-sig"))
    assert import_corpus("msp-podcast", folder).frame["split"].to_list()[:2] == ["train", "dev"]


@pytest.mark.parametrize(
    ("text", "first", "further"),
    [
        ("W1; Angry; Angry,Annoyed; A:5.0; V:2.0; D:4.0;", "angry", ["angry", "annoyed"]),
        ("W1; Angry; A:5.0; V:2.0; D:4.0;", "angry", []),
        ("W1; Other-foo;bar; Angry,Annoyed; A:5.0; V:2.0; D:4.0;", "other", ["angry", "annoyed"]),
        ("W1; Other-foo; bar; sad; A:5; V:2; D:4", "other", ["sad"]),
        ("W1; Other-a;b;c; A:5.0; V:2.0; D:4.0;", "other", []),
        ("W1; Other-foo; Other-x, y; A:5.0; V:2.0; D:4.0;", "other", ["other"]),
        ("W1; Sad; Sad,Other-x;y, z; A:NaN; V:2.0; D:4.0;", "sad", ["other", "sad"]),
        ("W1; Neutral; ; A:5.0; V:2.0; D:4.0;", "neutral", []),
    ],
)
def test_a_raters_own_words_may_contain_a_semicolon(
    tmp_path: Path, text: str, first: str, further: list[str]
) -> None:
    folder = corpus(tmp_path)
    table = pl.DataFrame({"FileName": ["MSP-PODCAST_0001_0008.wav"], "EmoDetail": [text]})
    table.write_csv(folder / "Labels" / "labels_detailed.csv")
    row = import_corpus("msp-podcast", folder).frame.row(0, named=True)
    votes = {name: count for name, count in row.items() if name.startswith("votes") and count}
    assert votes == {f"votes.{first}": 1, **{f"votes2.{name}": 1 for name in further}}


@pytest.mark.parametrize("text", ["[1]", "{}{", '{"a": 1}', "[" * 100_000, "null"])
def test_broken_json_is_reported_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "Labels").mkdir()
    path = tmp_path / "Labels" / "labels_consensus.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        import_corpus("msp-podcast", tmp_path)
    assert str(caught.value).startswith(f"{path}: not the labels of MSP-Podcast (")
