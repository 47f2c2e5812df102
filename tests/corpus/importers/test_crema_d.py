import os
from pathlib import Path

import polars as pl
import pytest

from ser.corpus.check import require_speaker_disjoint
from ser.corpus.errors import UserError
from ser.corpus.importers.crema_d import CLASSES, read_votes
from ser.corpus.importers.registry import import_corpus

needs_shared = pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")
VOTES = """"","A","D","F","H","N","S","fileName","numResponses"
"100001",0,1,0,1,9,0,"1001_DFA_ANG_XX",11
"100002",2,0,0,3,1,0,"1064_IEO_HAP_LO",6
"100003",0,0,2,0,0,2,"1091_WSI_SAD_HI",4
"107443",2,0,0,1,0,0,"1064_IEO_HAP_LO",3
"200001",8,1,0,0,0,0,"1001_DFA_ANG_XX",9
"300001",7,0,0,0,1,0,"1001_DFA_ANG_XX",8
"""


def corpus(folder: Path, votes: str = "processedResults/tabulatedVotes.csv") -> Path:
    (folder / "AudioWAV").mkdir()
    for name in ("1001_DFA_ANG_XX", "1064_IEO_HAP_LO", "1091_WSI_SAD_HI", "1040_ITH_SAD_X"):
        (folder / "AudioWAV" / f"{name}.wav").touch()
    if votes:
        (folder / votes).parent.mkdir(exist_ok=True)
        (folder / votes).write_text(VOTES)
    (folder / "VideoDemographics.csv").write_text(
        "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n1091,29,Female,A,B\n"
    )
    return folder


def test_names_demographics_and_voice_votes_are_joined(tmp_path: Path) -> None:
    manifest = import_corpus("crema-d", corpus(tmp_path))
    assert manifest.classes == ("angry", "happy", "sad")
    columns = ["utterance", "split", "speaker", "gender", "emotion", "intensity"]
    assert manifest.frame.select(columns).rows() == [
        ("1001_DFA_ANG_XX", "train", "crema-d-1001", "male", "angry", None),
        ("1040_ITH_SAD_XX", "train", "crema-d-1040", None, "sad", None),
        ("1064_IEO_HAP_LO", "dev", "crema-d-1064", None, "happy", "low"),
        ("1091_WSI_SAD_HI", "test", "crema-d-1091", "female", "sad", "high"),
    ]
    assert manifest.column("path", ["1040_ITH_SAD_XX"]) == ["AudioWAV/1040_ITH_SAD_X.wav"]
    assert manifest.column("transcript", ["1001_DFA_ANG_XX"]) == ["Don't forget a jacket."]
    votes = manifest.frame.select(f"votes.{name}" for name in CLASSES).rows()
    assert votes[0] == (0, 1, 0, 1, 9, 0)
    assert votes[1] == (None,) * 6
    assert votes[2] == (4, 0, 0, 4, 1, 0)  # two rows added up


def test_perceived_labels_are_the_plurality_and_null_on_a_tie(tmp_path: Path) -> None:
    manifest = import_corpus("crema-d", corpus(tmp_path, "tabulatedVotes.csv"), label="perceived")
    assert manifest.frame["emotion"].to_list() == ["neutral", None, None, None]


@pytest.mark.parametrize(("modality", "angry"), [("voice", 0), ("face", 8), ("both", 7)])
def test_modality_chooses_the_raters(tmp_path: Path, modality: str, angry: int) -> None:
    manifest = import_corpus("crema-d", corpus(tmp_path), modality=modality)
    assert manifest.column("votes.angry", ["1001_DFA_ANG_XX"]) == [angry]


def test_votes_are_needed_for_perceived_labels_only(tmp_path: Path) -> None:
    folder = corpus(tmp_path, votes="")
    assert not [c for c in import_corpus("crema-d", folder).frame.columns if "votes" in c]
    with pytest.raises(UserError) as caught:
        import_corpus("crema-d", folder, label="perceived")
    assert str(caught.value) == (
        f"{folder / 'processedResults' / 'tabulatedVotes.csv'}: there is no such file, and "
        "perceived labels need its votes; add it from the corpus's repository or use "
        "label=intended."
    )


def test_a_folder_without_audio_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        import_corpus("crema-d", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'AudioWAV'}: there is no such folder; "
        "give the CREMA-D folder that contains AudioWAV."
    )


def test_another_table_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"v\.csv: the columns fileName, D, F, H, N, S are missing"):
        read_votes(tmp_path / "v.csv")


def test_tables_that_a_spreadsheet_saved_again_are_the_same(tmp_path: Path) -> None:
    expected = import_corpus("crema-d", corpus(tmp_path)).frame
    votes = tmp_path / "processedResults" / "tabulatedVotes.csv"
    text = VOTES.replace(",", ";").replace("\n", "\r\n") + ";;;;;;;;\r\n"
    votes.write_bytes(text.replace("fileName", " filename ").encode("utf-16"))
    genders = tmp_path / "VideoDemographics.csv"
    genders.write_text(genders.read_text().replace(",", "\t").replace("Sex", "SEX"))
    assert import_corpus("crema-d", tmp_path).frame.equals(expected)
    votes.write_text(VOTES.replace('100002",2', '100002",two'))
    with pytest.raises(UserError, match=r"A is 'two' for '1064_IEO_HAP_LO', not a number"):
        import_corpus("crema-d", tmp_path)


@needs_shared
def test_real_votes_agree_with_the_published_winner(tmp_path: Path) -> None:
    path = Path(os.environ["SER_SHARED"]) / "corpora" / "crema_d_tabulatedVotes.csv"
    table = pl.read_csv(path, infer_schema=False).filter(pl.col("").str.starts_with("1"))
    assert table.height == 7442
    (tmp_path / "AudioWAV").mkdir()
    for name in table["fileName"]:
        (tmp_path / "AudioWAV" / f"{name}.wav").touch()
    (tmp_path / "tabulatedVotes.csv").write_bytes(path.read_bytes())
    manifest = import_corpus("crema-d", tmp_path, label="perceived")
    require_speaker_disjoint(manifest)
    # emoVote is a letter, or letters with ":" on a tie.
    letters = {name[0].upper(): name for name in CLASSES}
    winner = table["emoVote"].replace_strict(letters, default=None).to_list()
    assert manifest.column("emotion", table["fileName"].to_list()) == winner
    assert winner.count(None) == 644
    votes = manifest.votes(manifest.utterances())
    labels = manifest.labels(manifest.utterances())
    assert (votes.argmax(axis=1)[labels >= 0] == labels[labels >= 0]).all()
    assert not votes[:, -1].any()
    cells = manifest.frame.drop_nulls("emotion").group_by("split", "emotion").len()
    assert cells.height == 18
