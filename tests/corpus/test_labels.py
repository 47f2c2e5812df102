import polars as pl

from ser.corpus.labels import label_problems, summary
from ser.corpus.manifest import Manifest


def manifest(**columns: object) -> Manifest:
    frame = pl.DataFrame(columns)
    names = [f"u{i}" for i in range(frame.height)]
    return Manifest(frame.with_columns(utterance=pl.Series(names), path=pl.Series(names)))


def warnings(**columns: object) -> list[tuple[str, str]]:
    problems = list(label_problems(manifest(**columns)))
    assert {severity for *_, severity in problems} <= {"warning"}
    return [(problem, detail) for _, problem, detail, _ in problems]


def test_a_summary_counts_rows_with_a_class_and_a_split() -> None:
    columns = {"emotion": ["sad", "angry", None], "split": ["train", "", "test"]}
    assert summary(manifest(**columns)) == (
        "3 utterances, 2 with a class, 2 with a split (1 train, 1 test); classes: angry, sad"
    )
    assert summary(manifest(emotion=[None])) == (
        "1 utterance, 0 with a class, 0 with a split; classes: none"
    )


def test_nothing_labelled_and_nothing_split_are_errors() -> None:
    unusable = manifest(emotion=[None, ""], speaker=["a", "b"])
    assert [problem[1:] for problem in label_problems(unusable, "m.csv")] == [
        (
            "nothing labelled",
            "none of 2 rows has a class; run `ser corpus import` again with "
            "`--option emotion=COLUMN`",
            "error",
        ),
        (
            "nothing split",
            "none of 2 rows is in train, dev or test; run `ser corpus split m.csv`",
            "error",
        ),
    ]


def test_attributes_or_folds_alone_are_enough() -> None:
    assert warnings(emotion=["sad"], fold=["1"]) == []
    assert warnings(arousal=[3.0], split=["dev"]) == [
        ("nothing labelled", "none of 1 row has a class, only attributes")
    ]
    assert warnings(emotion=["sad", None], split=["", "dev"]) == []


def test_names_that_differ_in_capitals_alone_are_warnings() -> None:
    columns = {
        "emotion": ["Angry", "angry", "ANGRY", "sad"],
        "speaker": ["S1", "s1", "s2", None],
        "split": ["train"] * 4,
    }
    assert warnings(**columns) == [
        ("classes that differ only in case", "'ANGRY' and 'Angry' and 'angry'"),
        ("speakers that differ only in case", "'S1' and 's1'"),
    ]


def test_votes_of_a_class_in_other_capitals_are_a_warning() -> None:
    columns = {"emotion": ["sad"], "split": ["dev"], "votes.Sad": [1], "votes.other": [0]}
    assert warnings(**columns) == [
        (
            "votes that differ from a class only in case",
            "'votes.Sad' counts as other, not as 'sad'",
        )
    ]
    assert warnings(**columns, **{"votes.sad": [1]}) == []
