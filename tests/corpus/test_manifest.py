from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import UserError
from corpus.manifest import COLUMNS, Manifest

CLASSES = ("surprise", "angry", "neutral")


def frame(**columns: list[Any]) -> pl.DataFrame:
    rows = len(next(iter(columns.values()), [0, 0, 0]))
    names = [f"u{i}" for i in range(rows)]
    return pl.DataFrame({"utterance": names, "path": [f"{n}.wav" for n in names], **columns})


def refusal(table: pl.DataFrame, classes: tuple[str, ...] | None = CLASSES) -> str:
    with pytest.raises(UserError) as caught:
        Manifest(table, classes, "m.csv")
    return str(caught.value)


def test_missing_columns_are_filled_in() -> None:
    manifest = Manifest(frame(extra=["x"]))
    assert manifest.frame.columns == ["utterance", "path", "extra", *list(COLUMNS)[2:]]
    row = manifest.frame.row(0, named=True)
    assert (row["split"], row["emotion"], row["start"], row["extra"]) == ("", None, None, "x")
    assert len(manifest) == 1


def test_empty_cells_are_unknown() -> None:
    manifest = Manifest(frame(emotion=[""], speaker=[""], gender=[""], split=[None]))
    row = manifest.frame.row(0, named=True)
    assert (row["emotion"], row["speaker"], row["gender"], row["split"]) == (None, None, None, "")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_written_and_read_it_is_the_same(tmp_path: Path, suffix: str) -> None:
    table = frame(
        emotion=["angry", None, "neutral"],
        speaker=["007", "1e5", None],
        split=["train", "", "dev"],
        arousal=[1.0, None, 6.5],
        transcript=['Yes, "he" said,\nand left.', "", None],
        **{"votes.angry": [3, 0, None]},
    )
    manifest = Manifest(table, CLASSES)
    manifest.write(tmp_path / "new" / f"m.{suffix}")
    again = Manifest.read(tmp_path / "new" / f"m.{suffix}", CLASSES)
    assert again.frame.equals(manifest.frame)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"m.{suffix}"]


def test_labels_and_columns_are_looked_up_by_id_in_class_order() -> None:
    manifest = Manifest(frame(emotion=["neutral", None, "angry"], speaker=["a", "b", "c"]), CLASSES)
    labels = manifest.labels(["u2", "u1", "u0", "u2"])
    np.testing.assert_array_equal(labels, [1, -1, 2, 1])
    assert labels.dtype == np.int64
    assert manifest.column("speaker", ["u2", "u0"]) == ["c", "a"]


def test_classes_default_to_what_is_found() -> None:
    assert Manifest(frame(emotion=["sad", "angry", None])).classes == ("angry", "sad")


def test_utterances_of_a_split_keep_their_order() -> None:
    manifest = Manifest(frame(split=["dev", "train", "dev"]))
    assert manifest.utterances("dev") == ["u0", "u2"]
    assert manifest.utterances() == ["u0", "u1", "u2"]
    assert manifest.utterances("test") == []


def test_votes_are_counts_in_class_order_and_then_of_all_others() -> None:
    cells = {"votes.angry": [3, 0, None], "votes.neutral": [1, 0, 2], "votes.other": [4, None, 0]}
    bored = {"votes.bored": [0.5, 5, None], "votes2.angry": [7, 7, 7]}
    manifest = Manifest(frame(**cells, **bored), CLASSES)
    votes = manifest.votes(["u2", "u0", "u1", "u2"])
    expected = [[0, 0, 2, 0], [0, 3, 1, 4.5], [0, 0, 0, 5], [0, 0, 2, 0]]
    assert votes.tolist() == expected
    assert votes.dtype == np.float64
    assert manifest.votes(["u1"], "votes2.").tolist() == [[0, 7, 0, 0]]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 9))] * 4), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_votes_are_looked_up_by_id(cells: list[tuple[int | None, ...]], shuffle: Any) -> None:
    names = [*CLASSES, "other"]
    columns = {f"votes.{name}": [c[i] for c in cells] for i, name in enumerate(names)}
    order = [f"u{i}" for i in range(len(cells))]
    shuffle.shuffle(order)
    votes = Manifest(frame(**columns), CLASSES).votes(order)
    assert votes.tolist() == [[cell or 0 for cell in cells[int(u[1:])]] for u in order]


@pytest.mark.parametrize("prefix", ["votes.", "votes2."])
def test_soft_labels_without_any_votes_are_refused(prefix: str) -> None:
    manifest = Manifest(frame(**{f"{prefix}other": [1, 2, 3]}), CLASSES, "m.csv")
    with pytest.raises(UserError) as caught:
        manifest.votes(["u0"], prefix)
    assert str(caught.value) == (
        f"m.csv: there are no {prefix}<class> columns, so soft labels cannot be made; "
        "import a corpus with rater votes or use hard labels."
    )


def test_votes_that_a_csv_gives_as_text_become_numbers() -> None:
    manifest = Manifest(frame(**{"votes.angry": ["2", None]}), CLASSES)
    assert manifest.frame["votes.angry"].to_list() == [2.0, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"split": ["train", "train", "eval"]},
            "m.csv: split 'eval' is unknown; use train, dev, test or leave it empty.",
        ),
        (
            {"emotion": ["angry", None, "bored"]},
            "m.csv: emotion 'bored' is not one of the classes (surprise, angry, neutral); "
            "add it to corpus.classes in pipeline.yaml or leave the cell empty.",
        ),
        (
            {"valence": [None, 7.0, 7.5]},
            "m.csv: valence is 7.5 for 'u2'; attributes are on the 1-7 scale.",
        ),
        (
            {"arousal": [None, 7.0, float("nan")]},
            "m.csv: arousal is nan for 'u2'; attributes are on the 1-7 scale.",
        ),
        (
            {"votes.angry": [None, 0, -1]},
            "m.csv: votes.angry is -1 for 'u2'; votes count raters, so 0 or more.",
        ),
        (
            {"votes.angry": [None, 0.0, float("nan")]},
            "m.csv: votes.angry is nan for 'u2'; votes count raters, so 0 or more.",
        ),
        (
            {"start": [0.0, 1.0, 2.0], "end": [1.0, None, 2.0]},
            "m.csv: start and end of 'u2' are not a span of time; "
            "start is 0 or more and end is greater (seconds).",
        ),
        (
            {"start": [0.0, 0.0, -1.0]},
            "m.csv: start and end of 'u2' are not a span of time; "
            "start is 0 or more and end is greater (seconds).",
        ),
    ],
)
def test_bad_cells_are_one_sentence(columns: dict[str, list[Any]], message: str) -> None:
    assert refusal(frame(**columns)) == message


def test_bad_ids_are_one_sentence() -> None:
    table = pl.DataFrame({"utterance": ["b", "a", "b", "a"], "path": ["x"] * 4})
    assert refusal(table) == (
        "m.csv: utterance 'a' stands more than once (2 such ids); give every row an id of its own."
    )
    table = pl.DataFrame({"utterance": ["a", "", "c", None], "path": ["x", "x", "", "x"]})
    assert refusal(table) == "m.csv: 3 rows have no utterance id or no path; fill in both."
    assert refusal(pl.DataFrame({"utterance": ["a"]})) == (
        "m.csv: the column 'path' is missing; every row needs an id (utterance) "
        "and an audio file (path)."
    )


def test_text_in_a_column_of_numbers_is_one_sentence() -> None:
    message = refusal(frame(arousal=["high"]))
    assert message.startswith("m.csv: a column has the wrong type (")
    assert "'arousal'" in message
    assert message.endswith(
        "); start, end, the attributes and the votes are numbers, the others text."
    )


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    with pytest.raises(UserError) as caught:
        Manifest.read(path)
    assert str(caught.value) == (
        f"{path}: there is no such manifest; make one with "
        f"`ser corpus import NAME FOLDER --out {path}`."
    )


def test_a_file_that_is_no_table_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    path.write_text("not parquet")
    with pytest.raises(UserError) as caught:
        Manifest.read(path)
    assert str(caught.value).startswith(f"{path}: not readable as a table (")
    assert str(caught.value).endswith("); write it as .parquet or .csv with a header line.")
