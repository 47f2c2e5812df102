from pathlib import Path

import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus

EVALUATION = """UTD-IMPROV-S01A-F01-P-FM01.avi; A; A:3.000000; V:1.500000; D:NaN ; N:3.200000;
WORKER0001; Angry; Angry,Frustrated; A:4.0; V:2.0; D:3.0; N:4.0;
WORKER0002; Angry; ; A:3.0; V:1.0; D:3.0; N:4.0;
WORKER0003; Other; Other (tired; slow); A:2.0; V:1.0; D:NaN; N:NaN;

UTD-IMPROV-S20N-M05-R-MF02.avi; X; A:5.0; V:1.0; D:4.0 ; N:3.0;
WORKER0001; Neutral; Neutral; A:4.0; V:2.0; D:3.0; N:4.0;
WORKER0004; Happy; Happy; A:4.0; V:2.0; D:3.0; N:4.0;

UTD-IMPROV-S20N-M06-S-MF02.avi; N; A:5.0; V:1.0; D:4.0 ; N:3.0;
UTD-IMPROV-S20N-M06-S-MF03.avi; S; A:5.0; V:1.0; D:4.0 ; N:3.0;
"""
CLIPS = (
    "session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav",
    "session5/S20N/R/MSP-IMPROV-S20N-M05-R-MF02.wav",
    "session6/S20N/S/MSP-IMPROV-S20N-M06-S-MF02.wav",
)


@pytest.mark.parametrize("name", ["Evaluation.txt", "Evalution.txt"])
def test_turns_ratings_and_attributes(tmp_path: Path, name: str) -> None:
    for file in CLIPS:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    (tmp_path / name).write_bytes(EVALUATION.replace("\n", "\r\n").encode())
    manifest = import_corpus("msp-improv", tmp_path)
    assert manifest.classes == ("angry", "neutral")
    columns = ["path", "split", "speaker", "gender", "session", "emotion", "scenario"]
    assert manifest.frame.select(columns).rows() == [
        (CLIPS[0], "train", "msp-improv-F01", "female", "01", "angry", "P"),
        (CLIPS[1], "dev", "msp-improv-M05", "male", "05", None, "R"),
        (CLIPS[2], "test", "msp-improv-M06", "male", "06", "neutral", "S"),
    ]
    assert manifest.frame["utterance"][0] == "MSP-IMPROV-S01A-F01-P-FM01"
    attributes = manifest.frame.select("arousal", "valence", "dominance").rows()
    assert attributes == [(4.0, 1.75, None), (7.0, 1.0, 5.5), (7.0, 1.0, 5.5)]
    votes = [f"votes.{name}" for name in ("angry", "happy", "neutral", "sad", "other")]
    assert manifest.frame.select(votes).rows() == [(2, 0, 0, 0, 1), (0, 1, 1, 0, 0), (0,) * 5]
    assert manifest.notes == ("left out, as there is no audio: 1 of 4",)


def test_another_folder_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        import_corpus("msp-improv", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: there is no Evaluation.txt in it; give the folder of MSP-IMPROV that has it "
        "and the sessions."
    )


def test_a_damaged_line_is_noted(tmp_path: Path) -> None:
    for file in CLIPS:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    damaged = EVALUATION.replace(
        "UTD-IMPROV-S01A-F01-P-FM01.avi; A; A:3.0", "UTD-IMPROV-S01A; A; A"
    )
    (tmp_path / "Evaluation.txt").write_text(damaged)
    manifest = import_corpus("msp-improv", tmp_path)
    assert len(manifest) == 2
    assert manifest.notes[1].startswith(
        "left out, as Evaluation.txt is not readable there: 1 line: UTD-IMPROV-S01A; A; A00000;"
    )
    (tmp_path / "Evaluation.txt").write_text("UTD-IMPROV-S01A; A\n")
    with pytest.raises(UserError, match="'UTD-IMPROV-S01A; A' is not the line of a turn; restore"):
        import_corpus("msp-improv", tmp_path)
