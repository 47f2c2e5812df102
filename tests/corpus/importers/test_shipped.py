import os
from pathlib import Path

import pytest

from ser.corpus.importers.registry import SPECS, import_corpus

SHARED = Path(os.environ.get("SER_SHARED", "/none")) / "corpora"
# corpus: some files of its archive; utterances, classes, speakers and languages of the manifest;
# one row as (utterance, speaker, gender, emotion, transcript)
TREES = {
    "ravdess": (
        "Actor_24/03-01-08-02-02-01-24 Actor_16/03-01-06-01-01-01-16 copy/03-01-06-01-01-01-16",
        (2, "fear surprise", "16 24", "en"),
        (
            "03-01-08-02-02-01-24",
            "ravdess-24",
            "female",
            "surprise",
            "Dogs are sitting by the door.",
        ),
    ),
    "savee": (
        "AudioData/DC/a01 AudioData/DC/sa02 AudioData/JE/a01 flat/KL_su15 flat/JK_n30 flat/JK_x01",
        (5, "angry neutral sad surprise", "DC JE JK KL", "en"),
        ("DC_sa02", "savee-DC", "male", "sad", None),
    ),
    "tess": (
        "OAF_Fear/OAF_back_fear YAF_ps/YAF_dog_ps OAF_neutral/OA_bite_neutral "
        "copy/OAF_Fear/OAF_back_fear",
        (3, "fear neutral surprise", "OAF YAF", "en"),
        ("OA_bite_neutral", "tess-OAF", "female", "neutral", "Say the word bite."),
    ),
    "emovo": (
        "f1/dis-f1-b1 m3/gio-m3-d2 m3/rab-m3-n5 f2/neu-f2-l3",
        (4, "angry disgust happy neutral", "f1 f2 m3", "it"),
        ("gio-m3-d2", "emovo-m3", "male", "happy", "Porti con te quella cosa?"),
    ),
    "cafe": (
        "Colère/Fort/01-C-2-1 Peur/Faible/12-P-1-6 Neutre/02-N-1-3",
        (3, "angry fear neutral", "01 02 12", "fr"),
        ("12-P-1-6", "cafe-12", "female", "fear", "Six ours aimants domestiqués."),
    ),
    "aesdd": (
        "anger/a03 (3)|anger/a06 (5)b|fear/f10 (01)|sadness/s20 (6)|readme",
        (4, "angry fear sad", "1 3 5 6", "el"),
        ("f10 (01)", "aesdd-1", None, "fear", None),
    ),
    "subesco": (
        "F_02_MONIKA_S_2_SURPRISE_3] F_02_MONIKA_S_1_NEUTRAL_5 M_10_EVAN_S_10_DISGUST_1",
        (3, "disgust neutral surprise", "F_02 M_10", "bn"),
        ("F_02_MONIKA_S_2_SURPRISE_3", "subesco-F_02", "female", "surprise", None),
    ),
    "shemo": (
        "female/F03S02 male/M02F01 male/M02W11 male/M56N100",
        (4, "fear neutral sad surprise", "F03 M02 M56", "fa"),
        ("M02W11", "shemo-M02", "male", "surprise", None),
    ),
    "esd": (
        "0001/Neutral/0001_000001 0011/Angry/train/0011_000351 0020/Sad/evaluation/0020_001051",
        (3, "angry neutral sad", "0001 0011 0020", "en zh"),
        ("0001_000001", "esd-0001", "female", "neutral", None),
    ),
    "mesd": (
        "Anger_F_A_tarde Happiness_C_B_basta_ya Fear_M_A_adios",
        (3, "angry fear happy", "", "es"),
        ("Happiness_C_B_basta_ya", None, None, "happy", "basta_ya"),
    ),
    "jl-corpus": (
        "Raw/JL/female1_angry_10a_1 Raw/JL/male2_concerned_6b_1 Raw/JL/male2_excited_15a_2",
        (3, "angry concerned excited", "female1 male2", "en"),
        ("male2_concerned_6b_1", "jl-male2", "male", "concerned", None),
    ),
    "emodb": (
        "wav/03a01Wa wav/14b10Lb wav/16a05Ac wav/08b01Ed",
        (4, "angry boredom disgust fear", "03 08 14 16", "de"),
        (
            "14b10Lb",
            "emodb-14",
            "female",
            "boredom",
            "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
        ),
    ),
}


def test_every_yaml_has_a_tree() -> None:
    assert {path.stem for path in SPECS.glob("*.yaml")} == set(TREES)


@pytest.mark.parametrize("name", TREES)
def test_a_tree_imports_to_known_counts(tmp_path: Path, name: str) -> None:
    text, (count, classes, speakers, languages), row = TREES[name]
    for stem in text.split("|") if "|" in text else text.split():
        path = tmp_path / f"{stem}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    manifest = import_corpus(name, tmp_path)
    frame = manifest.frame
    assert len(manifest) == count
    assert manifest.classes == tuple(classes.split())
    prefix = name.removesuffix("-corpus") + "-"
    assert sorted(frame["speaker"].drop_nulls().unique()) == [prefix + s for s in speakers.split()]
    assert sorted(frame["language"].unique()) == languages.split()
    assert frame["corpus"].unique().to_list() == [name]
    columns = ["utterance", "speaker", "gender", "emotion", "transcript"]
    assert row in frame.select(columns).rows()
    assert all((tmp_path / path).is_file() for path in frame["path"])
    assert (frame["split"] == "").all() == (name not in ("emodb", "ravdess"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="SER_SHARED is not set")
def test_the_real_emovo_is_complete() -> None:
    frame = import_corpus("emovo", SHARED / "emovo").frame
    assert len(frame) == 588
    assert frame.group_by("speaker", "emotion").len()["len"].to_list() == [14] * 42
    assert frame.group_by("speaker", "gender").len().height == 6
    assert frame["transcript"].null_count() == 0
    assert frame["transcript"].n_unique() == 14
