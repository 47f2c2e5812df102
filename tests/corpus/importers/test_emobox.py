import json
from pathlib import Path

import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus
from ser.corpus.manifest import Manifest

LABELS = {"neu": "Neutral", "gio": "Happy", "rab": "Angry", "x": "Other"}


def checkout(folder: Path, name: str, folds: list[dict[str, list[str]]], **fields: object) -> Path:
    """Write a data set whose clips are named as emovo's; `folds` have stems by part."""
    home = folder / "data" / name
    stems = sorted({stem for parts in folds for part in parts.values() for stem in part})
    lines = {
        stem: json.dumps(
            {
                "key": f"{name}-{stem}",
                "dataset": name,
                "wav": f"downloads/{name}/{stem.split('-')[1]}/{stem}.wav",
                "length": 2.0,
                "emo": stem.split("-")[0],
                **fields,
            }
        )
        for stem in stems
    }
    for number, parts in enumerate(folds, 1):
        (home / f"fold_{number}").mkdir(parents=True)
        for part, part_stems in parts.items():
            path = home / f"fold_{number}" / f"{name}_{part}_fold_{number}.jsonl"
            path.write_text("".join(lines[stem] + "\n" for stem in part_stems))
    (home / f"{name}.jsonl").write_text("\n".join(lines.values()))
    (home / "label_map.json").write_text(json.dumps(LABELS))
    return folder


def emovo(folder: Path) -> Path:
    clips = ["neu-f1-b1", "gio-f1-b2", "rab-m1-b1", "gio-m2-n5"]
    return checkout(
        folder,
        "emovo",
        [
            {"train": clips[2:], "test": clips[:2]},
            {"train": clips[:2], "test": clips[2:]},
        ],
    )


def rows(manifest: Manifest, *columns: str) -> list[tuple[object, ...]]:
    return manifest.frame.sort("utterance").select(columns).rows()


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        import_corpus("emobox", folder, **options)
    return str(caught.value).replace(f"{folder}/", "")


def test_a_checkout_imports_to_known_counts(tmp_path: Path) -> None:
    manifest = import_corpus("emobox", emovo(tmp_path), dataset="emovo")
    assert manifest.classes == ("neutral", "happy", "angry")
    columns = ("utterance", "speaker", "gender", "emotion", "language", "fold", "split")
    assert rows(manifest, *columns) == [
        ("emovo-gio-f1-b2", "emovo-f1", "female", "happy", "it", "1", ""),
        ("emovo-gio-m2-n5", "emovo-m2", "male", "happy", "it", "2", ""),
        ("emovo-neu-f1-b1", "emovo-f1", "female", "neutral", "it", "1", ""),
        ("emovo-rab-m1-b1", "emovo-m1", "male", "angry", "it", "2", ""),
    ]
    assert manifest.frame["corpus"].unique().to_list() == ["emovo"]
    assert manifest.frame["transcript"][1] == "Uno quarantatré dieci mille cinquantasette venti."
    assert manifest.notes == (
        "no split: EmoBox has 2 folds, in the column fold; fold=1 takes the parts of one as the "
        "split",
    )


def test_the_parts_of_a_fold_become_the_split(tmp_path: Path) -> None:
    manifest = import_corpus("emobox", emovo(tmp_path), dataset="emovo", fold=2)
    assert rows(manifest, "split", "fold") == [
        ("train", "1"),
        ("test", "2"),
        ("train", "1"),
        ("test", "2"),
    ]
    assert refusal(tmp_path, dataset="emovo", fold=3) == (
        "data/emovo: there is no fold 3; its folds are: 1, 2."
    )


def test_the_only_fold_is_the_split(tmp_path: Path) -> None:
    parts = {"train": ["neu-1-a"], "valid": ["gio-1-a"], "test": ["rab-2-a", "x-2-a", "q-1-b"]}
    folder = checkout(tmp_path, "pavoque", [parts], start_time=1.5, end_time=2.5)
    (tmp_path / "data/pavoque/fold_1/pavoque_test_fold1.jsonl").write_text("of an older layout")
    manifest = import_corpus("emobox", folder, dataset="pavoque")
    columns = ("utterance", "emotion", "split", "fold", "start", "end", "speaker", "language")
    assert rows(manifest, *columns) == [
        ("pavoque-gio-1-a", "happy", "dev", None, 1.5, 2.5, "pavoque", "de"),
        ("pavoque-neu-1-a", "neutral", "train", None, 1.5, 2.5, "pavoque", "de"),
        ("pavoque-q-1-b", None, "test", "1", 1.5, 2.5, "pavoque", "de"),
        ("pavoque-rab-2-a", "angry", "test", "1", 1.5, 2.5, "pavoque", "de"),
        ("pavoque-x-2-a", None, "test", "1", 1.5, 2.5, "pavoque", "de"),
    ]
    assert manifest.notes[:2] == (
        "no class for 'q' (1 row): no label map has it",
        "EmoBox's fold 1 shares speakers of test with train",
    )


def test_mistakes_are_reported_in_one_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path, dataset="emovo") == (
        "data: there is no <dataset>/fold_1/<dataset>_test_fold_1.jsonl in it; give the checkout "
        "of EmoBox."
    )
    emovo(tmp_path)
    assert refusal(tmp_path) == "no data set is given; give one with dataset=NAME: emovo."
    assert refusal(tmp_path, dataset="emvo") == (
        "data: there is no data set 'emvo'; did you mean 'emovo'?"
    )
    path = tmp_path / "data" / "emovo" / "emovo.jsonl"
    path.write_text('\n{"key": "a"\n')
    assert refusal(tmp_path, dataset="emovo").startswith(
        "data/emovo/emovo.jsonl:2: not an utterance of EmoBox (invalid JSON: EOF"
    )
    for wav in ("/etc/passwd", "downloads/../../x.wav", ""):
        path.write_text(json.dumps({"key": "a", "wav": wav}))
        assert refusal(tmp_path, dataset="emovo") == (
            f"data/emovo/emovo.jsonl: the audio of 'a' is '{wav}', not a path within the checkout; "
            "restore the file of the repository."
        )
    path.unlink()
    (path.parent / "label_map.json").write_text("[]")
    assert "label_map.json: not a label map" in refusal(tmp_path, dataset="emovo")


@pytest.mark.parametrize(
    ("name", "path", "columns"),
    [
        ("ased", "05Angry/a5-02-01-01-33", ("ased-33", None, "am")),
        ("asvpesd", "Audio/actor_36/03-01-09-01-06-36-02-02-01-39", ("asvpesd-36", None, "zh")),
        ("asvpesd", "Audio/actor_101/03-02-06-01-42-101-02-01-00-16", ("asvpesd-101", None, None)),
        ("casia", "wangzhe/neutral/239", ("casia-wangzhe", None, "zh")),
        ("cremad", "AudioWAV/1087_IWL_ANG_XX", ("crema-d-1087", None, "en")),
        ("enterface", "subject 19/anger/sentence 4/s19_an_4", ("enterface-19", None, "en")),
        ("iemocap", "Ses01M_script01_3/Ses01M_script01_3_F020", ("Ses01F", "female", "en")),
        ("jlcorpus", "JL(wav+txt)/male2_concerned_6b_1", ("jl-male2", "male", "en")),
        ("mead", "W019/audio/neutral/level_1/020", ("mead-W019", "female", "en")),
        ("oreau", "OréauFR_02/m/sessj/29a13Ja", ("oreau-29", None, "fr")),
        ("polish", "m3.s_trzymaj_5", ("polish-m3", None, "pl")),
        ("ravdess", "Actor_11/03-01-07-02-02-02-11", ("ravdess-11", None, "en")),
        ("turevdb", "Sound Source/Calm/1984_sk_orgu", ("turevdb-sk", None, "tr")),
        ("urdu", "Neutral/SM5_F63_N091", ("urdu-SM5", "male", "ur")),
    ],
)
def test_the_speaker_is_read_from_the_path(
    tmp_path: Path, name: str, path: str, columns: tuple[object, ...]
) -> None:
    folder = checkout(
        tmp_path, name, [{"test": ["neu-1"]}], wav=f"downloads/{name}/{path}.wav", emo="neu"
    )
    manifest = import_corpus("emobox", folder, dataset=name)
    assert rows(manifest, "speaker", "gender", "language") == [columns]


def test_every_data_set_has_a_language_or_a_rule() -> None:
    from ser.corpus.importers.emobox import _path_specs

    assert len(_path_specs()) == 32
    assert all("language" in spec.columns for spec in _path_specs().values())


def bent(folder, utterances, labels):
    home = folder / "data" / "odd"
    (home / "fold_1").mkdir(parents=True)
    text = "\n".join(json.dumps(utterance, ensure_ascii=False) for utterance in utterances)
    for name in ("odd.jsonl", "fold_1/odd_train_fold_1.jsonl", "fold_1/odd_test_fold_1.jsonl"):
        (home / name).write_text(text)
    (home / "label_map.json").write_text(json.dumps(labels))
    return import_corpus("emobox", folder, dataset="odd")


@pytest.mark.parametrize("name", [["sad"], {"sad": 1}, None, 1, " "])
def test_a_class_that_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="the class of 'sad' is not a name"):
        bent(tmp_path, [{"key": "a", "wav": "a.wav", "emo": "sad"}], {"sad": name})


@pytest.mark.parametrize("path", ["a" * 100_000, "a/" * 3000, "a\0b.wav"])
def test_audio_that_no_file_system_takes_is_refused_in_a_short_sentence(tmp_path, path):
    with pytest.raises(UserError, match="not a path within the checkout") as refusal:
        bent(tmp_path, [{"key": "k" * 10_000, "wav": path, "emo": "sad"}], {"sad": "sad"})
    assert len(str(refusal.value)) < 600


def test_folds_without_an_utterance_are_refused(tmp_path):
    with pytest.raises(UserError, match="have no utterance"):
        bent(tmp_path, [], {"sad": "sad"})


def test_only_a_line_feed_ends_a_line(tmp_path):
    utterance = {"key": "a", "wav": "a\u2028b.wav", "emo": "sad"}
    manifest = bent(tmp_path, [utterance], {"sad": "sad"})
    assert manifest.frame["path"].to_list() == ["a\u2028b.wav"]


def test_an_utterance_of_another_shape_is_named_with_its_field(tmp_path):
    with pytest.raises(
        UserError, match=r"not an utterance of EmoBox \('wav' is not valid: it must be text"
    ):
        bent(tmp_path, [{"key": "a", "wav": 5, "emo": "sad"}], {"sad": "sad"})


def test_a_key_that_is_not_utf_8_is_refused(tmp_path):
    bent(tmp_path, [{"key": "a", "wav": "a.wav", "emo": "sad"}], {"sad": "sad"})
    file = next(tmp_path.glob("data/*/*.jsonl"))
    file.write_bytes(b'\n{"key": "\xff", "wav": "a.wav"}\n')
    with pytest.raises(UserError, match=r"jsonl:2: it is not UTF-8 text; restore the file"):
        import_corpus("emobox", tmp_path, dataset=file.parent.name)


def test_a_class_on_two_lines_is_refused(tmp_path):
    utterance = {"key": "a", "wav": "a.wav", "emo": "sad"}
    with pytest.raises(UserError, match=r"the class of 'sad' is not a name"):
        bent(tmp_path, [utterance], {"sad": "sad\nx"})
