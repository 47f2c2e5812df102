import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.corpus.split import divide, fold_manifest, part_table, parts_of, split_manifest

# clips of angry, happy, sad and neutral of EmoDB's ten speakers
EMODB4 = [(14, 7, 7, 11), (12, 2, 4, 4), (13, 4, 4, 9), (10, 4, 3, 4), (11, 8, 7, 9)]
EMODB4 += [(12, 10, 5, 9), (12, 11, 9, 10), (13, 6, 4, 11), (14, 11, 9, 5), (16, 8, 10, 7)]


def manifest(rows: list[tuple], columns: str = "speaker emotion", **settings: object) -> Manifest:
    ids = [str(i) for i in range(len(rows))]
    frame = pl.DataFrame(rows, columns.split(), orient="row", infer_schema_length=None)
    return Manifest(frame.with_columns(utterance=pl.Series(ids), path=pl.Series(ids)), **settings)


def emodb() -> Manifest:
    names = ("angry", "happy", "sad", "neutral")
    return manifest(
        [
            (f"s{speaker}", name)
            for speaker, counts in enumerate(EMODB4)
            for name, count in zip(names, counts, strict=True)
            for _ in range(count)
        ],
        classes=names,
        source="emodb.csv",
        audio="clips",
    )


def of_speakers(manifest: Manifest, column: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for speaker, part in manifest.frame.select("speaker", column).iter_rows():
        found.setdefault(speaker, set()).add(part)
    return found


def test_splits_have_their_shares_and_classes_and_no_speaker_is_in_two() -> None:
    split = split_manifest(emodb(), test=0.2, dev=0.2, seed=0)
    assert all(len(parts) == 1 for parts in of_speakers(split, "split").values())
    assert part_table(parts_of(split, "split")).rows() == [
        ("clips", 201, 65, 73),
        ("speakers", 6, 2, 2),
        ("angry", 76, 24, 27),
        ("happy", 42, 12, 17),
        ("sad", 38, 11, 13),
        ("neutral", 45, 18, 16),
        ("(none)", 0, 0, 0),
    ]
    assert (split.classes, split.source, split.audio) == (
        *(emodb().classes, "emodb.csv"),
        emodb().audio,
    )


def test_folds_are_numbered_more_even_than_scikit_learns_and_leave_the_split_alone() -> None:
    from ser.corpus.folds import speaker_folds

    rows = emodb()
    rows.frame = rows.frame.with_columns(split=pl.lit("test"))
    parts = parts_of(fold_manifest(rows, 5, seed=0), "fold")
    assert [part.name for part in parts] == ["1", "2", "3", "4", "5"]
    assert set(fold_manifest(rows, 5).frame["split"]) == {"test"}
    sizes = [part.clips for part in parts]
    frame = rows.frame
    theirs = np.bincount(speaker_folds(frame["emotion"].to_numpy(), frame["speaker"], 5, 0))
    assert (min(sizes), max(sizes)) == (60, 75)
    assert (min(theirs), max(theirs)) == (51, 83)


def test_the_same_seed_gives_the_same_parts_and_another_seed_others() -> None:
    rows = manifest([(f"s{i % 12}", "angry") for i in range(48)])
    first = split_manifest(rows, seed=1).frame
    assert first.equals(split_manifest(rows, seed=1).frame)
    assert any(not first.equals(split_manifest(rows, seed=s).frame) for s in (2, 3))


@settings(deadline=None)
@given(
    groups=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=12),
    parts=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_no_part_is_empty_and_no_exchange_would_be_better(
    groups: list[tuple[int, int]], parts: int, seed: int
) -> None:
    counts = np.array(groups, float) + 1
    shares = np.arange(1, parts + 1) / sum(range(1, parts + 1))
    assigned = np.array(divide(counts, shares.tolist(), np.ones(2), seed))
    assert set(assigned) == set(range(parts))

    def distance(assigned: np.ndarray) -> float:
        have = np.array([counts[assigned == p].sum(0) for p in range(parts)])
        wanted = np.outer(shares, counts.sum(0))
        return float(((have - wanted) ** 2 / wanted).sum())

    for a in range(len(counts)):
        for b in range(a):
            exchanged = assigned.copy()
            exchanged[[a, b]] = assigned[[b, a]]
            assert distance(exchanged) >= distance(assigned) - 1e-6


def test_a_class_of_one_speaker_is_trained_on() -> None:
    rows = [(f"s{i % 10}", "fear" if i % 10 == 7 and i > 50 else "calm") for i in range(100)]
    for seed in range(4):
        split = split_manifest(manifest(rows), seed=seed)
        assert set(split.frame.filter(pl.col("emotion") == "fear")["split"]) == {"train"}


def test_genders_are_spread_where_classes_leave_a_choice() -> None:
    rows = [(f"s{i % 10}", "calm", ("f", "m")[i % 10 < 5]) for i in range(100)]
    split = split_manifest(manifest(rows, "speaker emotion gender"), seed=5).frame
    for part in split.partition_by("split"):
        assert set(part["gender"].value_counts()["count"]) == {part.height // 2}


def test_a_session_is_not_divided_nor_a_speaker_of_two_sessions() -> None:
    rows = [(str(i % 8), f"s{i % 8}", "calm") for i in range(32)]
    rows += [("0", "s1", "calm")]  # so sessions 0 and 1 belong together
    folds = fold_manifest(manifest(rows, "session speaker emotion"), 7, by="session")
    assert all(len(parts) == 1 for parts in of_speakers(folds, "fold").values())
    assert len(set(folds.frame.filter(pl.col("session").is_in(["0", "1"]))["fold"])) == 1
    with pytest.raises(UserError) as caught:
        fold_manifest(manifest(rows, "session speaker emotion"), 8, by="session")
    assert str(caught.value) == (
        "manifest: utterances with the same session or speaker stay together, which makes 7 "
        "groups, too few for 8 parts (1, 2, 3, 4, 5, 6, 7, 8); make fewer parts."
    )


def test_one_speaker_cannot_be_divided() -> None:
    rows = manifest([("f1", "angry")] * 3)
    message = "manifest: all 3 clips are of one speaker (f1); speakers must differ between "
    for divide_rows, between in (
        (split_manifest, "train and test"),
        (lambda rows: fold_manifest(rows, 2), "folds"),
    ):
        with pytest.raises(UserError) as caught:
            divide_rows(rows)
        assert str(caught.value) == f"{message}{between}: add clips of other speakers."


def test_an_unknown_speaker_is_a_group_of_its_own() -> None:
    rows = manifest([("a", "calm"), *[(None, "calm")] * 3, ("a", "calm")])
    split = split_manifest(rows, test=0.3, dev=0.3)
    assert split.notes == ("3 utterances have no speaker: each is a group of its own",)
    assert {p.name: p.clips for p in parts_of(split, "split")} == {"train": 2, "dev": 2, "test": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": -0.1}, "test is -0.1; it is a share of the utterances, as 0.2."),
        (
            {"test": 0.5, "dev": 0.5},
            "test is 0.5 and dev is 0.5; their sum must be above 0 and below 1, as the rest is "
            "for train.",
        ),
        (
            {"by": "session"},
            "m.csv: the column 'session' is empty; fill it in, or divide by another column.",
        ),
        (
            {"by": "speakr"},
            "m.csv: there is no column 'speakr' to divide by; its columns are: utterance, path",
        ),
        (
            {},
            "m.csv: utterances with the same speaker stay together, which makes 2 groups, too few "
            "for 3 parts (train, dev, test); make fewer parts.",
        ),
    ],
)
def test_what_cannot_be_divided_is_reported_in_one_sentence(options: dict, message: str) -> None:
    rows = pl.DataFrame({"utterance": ["a", "b"], "path": ["a", "b"], "speaker": ["x", "y"]})
    with pytest.raises(UserError) as caught:
        split_manifest(Manifest(rows, source="m.csv"), **options)
    assert str(caught.value).startswith(message)


def test_two_parts_are_enough_where_dev_is_not_wanted() -> None:
    rows = manifest([("a", "calm"), ("b", "calm")])
    split = split_manifest(rows, test=0.4, dev=0)
    assert sorted(split.frame["split"]) == ["test", "train"]
    with pytest.raises(UserError, match=r"^folds is 1; use 2 or more\.$"):
        fold_manifest(rows, 1)
    with pytest.raises(UserError, match=r"^folds is 100000000, but manifest has only 2 utterance"):
        fold_manifest(rows, 100_000_000)


def test_a_column_of_lists_cannot_be_divided_by() -> None:
    rows = pl.DataFrame({"utterance": ["a", "b"], "path": ["a", "b"], "l": [[1], [2]]})
    with pytest.raises(
        UserError, match=r"the column 'l' is of type List\(Int64\); write it as text"
    ):
        fold_manifest(Manifest(rows), 2, by="l")
