from pathlib import Path

import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.corpus.join import class_by_corpus, join_manifests
from ser.corpus.manifest import Manifest


def part(name: str, emotions: str = "joy sad", folder: Path = Path("x"), **columns: object):
    """Return a manifest `<folder>/<name>.csv` of a row an emotion, each of a speaker of its own."""
    names = emotions.split()
    ids = [str(i) for i in range(len(names))]
    rows = {"utterance": ids, "path": [f"{i}.wav" for i in ids], "speaker": ids, "emotion": names}
    return Manifest(pl.DataFrame({**rows, **columns}), source=folder / f"{name}.csv")


def refusal(*parts: Manifest, **options) -> str:
    with pytest.raises(UserError) as caught:
        join_manifests(parts, **options)
    return str(caught.value)


def test_ids_speakers_and_sessions_get_the_corpus_in_front_once() -> None:
    german = part("de", session=["1", None])
    joined = join_manifests([german, part("x", corpus=["it", None])])
    columns = ("utterance", "speaker", "session", "corpus")
    assert joined.frame.select(columns).rows() == [
        ("de/0", "de/0", "de/1", "de"),
        ("de/1", "de/1", None, "de"),
        ("it/0", "it/0", None, "it"),
        ("x/1", "x/1", None, "x"),
    ]
    again = join_manifests([joined, part("fr")], ["all", None]).frame
    assert again["speaker"].to_list()[:2] == ["all/de/0", "all/de/1"]
    again = join_manifests([joined, part("fr")]).frame
    assert again["speaker"].to_list()[-3:] == ["x/1", "fr/0", "fr/1"]


def test_a_map_of_one_corpus_comes_before_that_of_all_and_the_table_counts_both() -> None:
    mapping = {"joy": "happy", "it:joy": "sad"}
    joined = join_manifests([part("de"), part("it"), part("fr", "sad angry")], mapping=mapping)
    assert class_by_corpus(joined).to_dict(as_series=False) == {
        "class": ["angry", "happy", "sad", "(none)", "clips"],
        "de": [0, 1, 1, 0, 2],
        "it": [0, 0, 2, 0, 2],
        "fr": [1, 0, 1, 0, 2],
        "all": [1, 1, 4, 0, 6],
    }


def test_emotions_that_are_not_a_class_are_left_out_or_kept_unlabelled() -> None:
    parts = [part("de"), part("it", "bored sad")]
    dropped = join_manifests(parts, classes=["sad", "joy"], others="drop")
    assert dropped.utterances() == ["de/0", "de/1", "it/1"]
    assert dropped.classes == ("sad", "joy")
    assert "it: left out, as no class is called so: 'bored' (1 row)" in dropped.notes
    kept = join_manifests(parts, classes=["sad", "joy"], others="keep-unlabelled")
    assert kept.frame["emotion"].to_list() == ["joy", "sad", None, "sad"]
    assert refusal(*parts, classes=["sad", "joy"]) == (
        "x/it.csv: no class is called 'bored' (1 row); map such emotions to a class, or give "
        "others as drop or keep-unlabelled."
    )


def test_audio_is_found_in_its_folder(tmp_path: Path) -> None:
    for folder in ("a/clips", "b"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "0.wav").touch()
    first, second = part("de", folder=tmp_path / "a"), part("it", folder=tmp_path / "b")
    first.audio = tmp_path / "a" / "clips"
    joined = join_manifests([first, second])
    assert joined.audio == tmp_path
    assert joined.frame["path"].to_list()[1:3] == ["a/clips/1.wav", "b/0.wav"]
    assert joined.notes == ()
    absolute = join_manifests([first, second], absolute=True)
    assert absolute.frame["path"][2] == str(tmp_path / "b" / "0.wav")


def test_attributes_and_votes_stay_unless_told_and_their_ranges_are_noted() -> None:
    votes = {"votes.joy": [3, 0], "votes.other": [1, 0], "votes2.joy": [2, 0]}
    german = part("de", arousal=[1.0, 5.0], **votes)
    italian = part("it", arousal=[2.0, 7.0])
    joined = join_manifests([german, italian])
    assert joined.frame["arousal"].to_list() == [1, 5, 2, 7]
    assert joined.frame["votes.joy"].to_list() == [3, 0, None, None]
    assert "arousal, not rescaled: de 1 to 5, it 2 to 7" in joined.notes
    joined = join_manifests([german, italian], rescale={"de": (1, 5)}, votes="shares")
    assert joined.frame["arousal"].to_list() == [1, 7, 2, 7]
    assert joined.frame["votes.joy"].to_list() == [0.75, None, None, None]
    assert joined.frame["votes2.joy"].to_list() == [0.5, None, None, None]
    assert "arousal, after rescaling de: de 1 to 7, it 2 to 7" in joined.notes
    assert refusal(german, italian, rescale={"it": (1, 5)}) == (
        "rescale: arousal of 'it/1' is 7, not between 1 and 5."
    )


def test_splits_are_kept_or_cleared_and_further_columns_kept() -> None:
    german = part("de", split=["train", "test"], fold=["1", "2"], take=[1, 2], synthetic=[True] * 2)
    italian = part("it", take=["a", "b"])
    joined = join_manifests([german, italian])
    assert joined.frame["split"].to_list() == ["train", "test", "", ""]
    assert joined.frame["take"].to_list() == ["1", "2", "a", "b"]
    assert joined.frame["synthetic"].to_list() == [True, True, False, False]
    assert "it: no utterance has a split" in joined.notes
    cleared = join_manifests([german, italian], splits="clear").frame
    assert set(cleared["split"]) == {""}
    assert cleared["fold"].null_count() == 4


def test_corpora_that_cannot_be_joined_are_reported_in_one_sentence() -> None:
    assert refusal(part("de")) == "1 manifest to join; give two or more."
    assert refusal(part("m", folder=Path("a")), part("m", folder=Path("b"))) == (
        "a/m.csv and b/m.csv are both called 'm'; give one of them another name, as other=b/m.csv."
    )
    same = {"corpus": ["de", "de"]}
    assert refusal(part("a", **same), part("b", **same)) == (
        "utterance 'de/0' is in x/a.csv and in x/b.csv; leave one of the two out, or give one "
        "corpus another name."
    )
    assert refusal(part("de"), part("it"), mapping={"it:yoy": "sad"}) == (
        "map: no utterance of it has the emotion 'yoy'; did you mean 'joy'?"
    )
    assert refusal(part("de"), part("it"), rescale={"ita": (1, 5)}) == (
        "rescale: there is no corpus 'ita'; did you mean 'it'?"
    )
    assert refusal(part("de"), part("it"), splits="drop") == (
        "splits is 'drop'; use one of: keep, clear."
    )


def test_corpora_that_are_called_as_a_column_of_the_table_keep_theirs() -> None:
    table = class_by_corpus(join_manifests([part("all"), part("class", "joy")]))
    assert table.columns == ["class", "corpus all", "corpus class", "all"]
    assert table.row(0) == ("joy", 1, 1, 2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": []}, "classes: none is given; name one or more."),
        ({"classes": ["joy", "sad", "joy"]}, "classes: 'joy' is named twice; name it once."),
        ({"classes": ["joy", ""]}, "the class '' is spelt like an empty cell; give another name."),
        (
            {"mapping": {"joy": "none"}},
            "the class 'none' is spelt like an empty cell; give another name.",
        ),
        (
            {"classes": ["calm"], "others": "drop"},
            "no utterance is left of de, it; give classes that they have, or map their emotions to "
            "these.",
        ),
        (
            {"rescale": {"de": (float("-inf"), 5)}},
            "rescale: de: -inf to 5 is not a range; give two finite numbers, as 1:5.",
        ),
    ],
)
def test_names_and_ranges_that_lose_rows_are_refused(options: dict, sentence: str) -> None:
    assert refusal(part("de"), part("it"), **options) == sentence
