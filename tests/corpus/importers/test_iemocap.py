from pathlib import Path

import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus

TURNS = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes0{n}F_impro01_F000\tneu\t[2.5000, 2.5000, 5.0000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral; Anger;\t(calm; then not)
C-E4:\tHappiness; Excited;\t()
C-F1:\tSadness;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()
A-F1:\tval 3; act 2; dom  1;\t()

[10.0100 - 11.3925]\tSes0{n}F_impro01_M001\texc\t[5.5000, 1.0000, 3.0000]
C-E2:\tExcited;\t()
C-E3:\tFrustration;\t()

[12.0000 - 13.0000]\tSes0{n}F_impro01_M002\tfru\t[3.0000, 3.0000, 3.0000]
C-E2:\tFrustration;\t()
C-E3:\tOther;\t(tired)
"""
WORDS = """Ses0{n}F_impro01_F000 [006.2901-008.2357]: Excuse me.
Ses0{n}F_impro01_M001 [010.0100-011.3925]: Yes: do you have your forms?
M: untimed words
"""


def corpus(folder: Path, *sessions: int) -> Path:
    for n in sessions:
        for kind, text in (("EmoEvaluation", TURNS), ("transcriptions", WORDS)):
            path = folder / f"Session{n}" / "dialog" / kind / f"Ses0{n}F_impro01.txt"
            path.parent.mkdir(parents=True)
            path.write_text(text.replace("{n}", str(n)))
            (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    return folder


def test_turns_labels_attributes_and_words(tmp_path: Path) -> None:
    manifest = import_corpus("iemocap", corpus(tmp_path, 1))
    assert manifest.classes == ("happy", "neutral")
    columns = ["utterance", "speaker", "gender", "emotion", "valence", "arousal", "dominance"]
    assert manifest.frame.select(columns).rows() == [
        ("Ses01F_impro01_F000", "Ses01F", "female", "neutral", 3.25, 3.25, 7.0),
        ("Ses01F_impro01_M001", "Ses01M", "male", "happy", 7.0, 1.0, 4.0),
        ("Ses01F_impro01_M002", "Ses01M", "male", None, 4.0, 4.0, 4.0),
    ]
    assert manifest.frame["transcript"].to_list() == [
        "Excuse me.",
        "Yes: do you have your forms?",
        None,
    ]
    assert manifest.frame["path"][1] == (
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M001.wav"
    )


def test_votes_are_the_outside_raters_one_for_each_class_they_name(tmp_path: Path) -> None:
    frame = import_corpus("iemocap", corpus(tmp_path, 1)).frame
    columns = [f"votes.{name}" for name in ("neutral", "angry", "happy", "sad", "other")]
    assert frame.select(columns).rows() == [(2, 1, 1, 0, 0), (0, 0, 1, 0, 1), (0, 0, 0, 0, 2)]


@pytest.mark.parametrize("value", ["4", 4])
def test_four_classes_may_be_a_number(tmp_path: Path, value: object) -> None:
    assert import_corpus("iemocap", corpus(tmp_path, 1), classes=value).classes[0] == "happy"


def test_all_classes_keep_excited_and_frustrated_apart(tmp_path: Path) -> None:
    frame = import_corpus("iemocap", corpus(tmp_path, 1), classes="all").frame
    assert frame["emotion"].to_list() == ["neutral", "excited", "frustrated"]
    columns = ["votes.happy", "votes.excited", "votes.frustrated", "votes.other"]
    assert frame.select(columns).rows() == [(1, 1, 0, 0), (0, 1, 1, 0), (0, 0, 1, 1)]


def test_sessions_make_the_splits(tmp_path: Path) -> None:
    frame = import_corpus("iemocap", corpus(tmp_path, 1, 2, 3, 4, 5)).frame
    splits = dict(frame.select("speaker", "split").unique().rows())
    assert splits == {
        **{f"Ses0{n}{g}": "train" for n in (1, 2, 3) for g in "FM"},
        **{f"Ses04{g}": "dev" for g in "FM"},
        **{f"Ses05{g}": "test" for g in "FM"},
    }


def test_a_folder_of_something_else_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        import_corpus("iemocap", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no Session*/dialog/EmoEvaluation/*.txt in this folder; "
        "give the unpacked IEMOCAP_full_release."
    )


@pytest.mark.parametrize(("cells", "expected"), [("NaN, 1.0, 3.0", None), ("1.0, 1.0, 3.0", 1.0)])
def test_an_attribute_may_be_unknown(tmp_path: Path, cells: str, expected: float | None) -> None:
    folder = corpus(tmp_path, 1)
    (file,) = folder.glob("Session1/dialog/EmoEvaluation/S*.txt")
    text = file.read_text().replace("5.5000, 1.0000, 3.0000", cells)
    file.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    row = import_corpus("iemocap", folder).frame.row(1, named=True)
    assert (row["utterance"], row["valence"]) == ("Ses01F_impro01_M001", expected)


def test_other_attributes_are_reported_in_one_sentence(tmp_path: Path) -> None:
    folder = corpus(tmp_path, 1)
    (file,) = folder.glob("Session1/dialog/EmoEvaluation/S*.txt")
    for wrong in ("5.5000, 1.0000", "a, b, c"):
        file.write_text(TURNS.replace("{n}", "1").replace("5.5000, 1.0000, 3.0000", wrong))
        with pytest.raises(UserError) as caught:
            import_corpus("iemocap", folder)
        assert str(caught.value) == (
            f"{file}: the attributes of Ses01F_impro01_M001 are '{wrong}', not three numbers; "
            "restore the file of the release."
        )
