"""Targets: votes to soft labels, which clips can teach, and mixtures."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus.errors import UserError
from ser.corpus.importers.crema_d import CLASSES as SIX
from ser.corpus.importers.registry import import_corpus
from ser.corpus.manifest import Manifest
from ser.heads.config import parse_head
from ser.heads.training.targets import (
    Labelled,
    Targets,
    genders,
    labelled,
    one_hot,
    soft_labels,
    teachable,
)

needs_shared = pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")
CLASSES = ("angry", "sad", "neutral")
NAN = float("nan")
COUNTS = st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=1, max_size=20)
# u0 a consensus, u1 none, u2 votes for other only, u3 nothing at all, u4 a class without votes
ROWS = {
    "split": ["train", "train", "train", "dev", "train"],
    "gender": ["male", "female", None, "unheard", "male"],
    "emotion": ["angry", None, None, None, "sad"],
    "arousal": [1.5, None, None, None, 7.0],
    "valence": [None, 2.0, None, None, 4.0],
    "votes.angry": [3, 1, None, None, None],
    "votes.sad": [1, 1, None, None, None],
    "votes.other": [1, 0, 4, None, None],
    "votes2.angry": [0, 2, None, None, None],
    "votes2.neutral": [4, 0, None, None, None],
    "votes2.bored": [2, 0, 1, None, None],
}
IDS = [f"u{i}" for i in range(5)]


def make_manifest(**changes):
    rows = {k: v for k, v in (ROWS | changes).items() if v is not None}
    names = pl.DataFrame({"utterance": IDS, "path": [f"{u}.wav" for u in IDS]})
    return Manifest(names.with_columns(**{k: pl.Series(v) for k, v in rows.items()}), CLASSES, "m")


def make_config(*loss, **entry):
    return parse_head({"features": ["a"], "loss": list(loss)} | entry)


def soft(*, ids=IDS, **votes):
    config = make_config("kld", votes=votes)
    return soft_labels(config, labelled(config, make_manifest(), ids))


def test_soft_labels_are_shares_without_other_and_the_class_where_there_are_none():
    expected = [[0.75, 0.25, 0], [0.5, 0.5, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert soft().tolist() == expected
    assert soft(ids=["u4", "u1"]).tolist() == [expected[4], expected[1]]


def test_other_can_be_kept_as_a_last_place():
    expected = [[0.6, 0.2, 0, 0.2], [0.5, 0.5, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    np.testing.assert_allclose(soft(other="keep"), expected)


def test_further_choices_are_counted():
    half = [[0.5, 1 / 6, 2 / 6], [2 / 3, 1 / 3, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    np.testing.assert_allclose(soft(secondary=0.5), half)
    kept = [[3 / 8, 1 / 8, 2 / 8, 2 / 8], [2 / 3, 1 / 3, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(soft(secondary=0.5, other="keep")[:3], kept)


def test_further_choices_must_be_there():
    config = make_config("kld", votes={"secondary": 1})
    without = make_manifest(**{name: None for name in ROWS if name.startswith("votes2.")})
    with pytest.raises(UserError, match=r"^m: there are no votes2\.<class> columns, so soft"):
        labelled(config, without, IDS)


@settings(deadline=None)
@given(votes=COUNTS, other=st.sampled_from(["keep", "drop"]), chance=st.floats(0, 0.9))
def test_soft_labels_sum_to_one_with_and_without_dropout(votes, other, chance):
    rows = Labelled([""] * len(votes), np.full(len(votes), -1), np.array(votes, dtype=float))
    config = make_config("kld", votes={"other": other, "dropout": chance})
    width = 4 if other == "keep" else 3
    counted = np.array(votes)[:, :width]
    for drop in (None, np.random.default_rng(0)):
        shares = soft_labels(config, rows, drop)
        assert shares.shape == (len(votes), width)
        np.testing.assert_allclose(shares.sum(axis=1), counted.any(axis=1))
        assert not shares[counted == 0].any()
    undropped = soft_labels(config, rows)
    most = counted.argmax(axis=1)
    at = np.arange(len(votes))
    assert (undropped[at, most] == undropped.max(axis=1)).all()


def dropped(votes, chance, seed=0, **options):
    config = make_config("kld", votes={"dropout": chance} | options)
    rows = Labelled([""] * len(votes), np.full(len(votes), -1), np.array(votes, dtype=float))
    return soft_labels(config, rows, np.random.default_rng(seed))


def test_annotation_dropout_leaves_out_a_share_of_the_votes_for_common_classes():
    votes = [[4, 1, 0, 9]] * 4000 + [[0, 0, 1, 0]]  # of 20001 votes, the first class has 16000
    shares = dropped(votes, 0.2)
    left = np.round(shares[:4000, 0] / shares[:4000, 1])  # votes for the first class, of four
    for count, chance in enumerate((0.2**4, 4 * 0.8 * 0.2**3, 6 * 0.8**2 * 0.2**2)):
        assert (left == count).mean() == pytest.approx(chance, abs=0.02)
    assert (left == 4).mean() == pytest.approx(0.8**4, abs=0.03)
    assert shares[4000].tolist() == [0, 0, 1]


def test_annotation_dropout_takes_no_vote_of_a_rare_class_and_never_the_last():
    votes = [[5, 0, 0, 0]] * 50 + [[1, 3, 1, 0]] * 20
    shares = dropped(votes, 0.9)
    assert (shares[:50] == [1, 0, 0]).all()
    np.testing.assert_allclose(shares[50:, 1], 3 * shares[50:, 2])
    assert set(np.round(shares[50:, 0], 3)) == {0, 0.2}


def test_common_is_more_than_an_even_share_of_the_places_that_have_votes():
    assert (dropped([[2, 2, 0, 0]] * 40, 0.9) == [0.5, 0.5, 0]).all()
    shares = dropped([[4, 5, 0, 0]] * 40, 0.5)
    assert (shares[:, 1] < 5 / 9).any()
    assert (shares[:, 0] >= 4 / 9).all()


def test_annotation_dropout_keeps_the_mean_of_fractional_votes():
    votes = [[1.5, 0.25, 0, 0]] * 4000
    shares = dropped(votes, 0.2)
    left = shares[:, 0] / shares[:, 1] * 0.25
    assert left.mean() == pytest.approx(1.5 * 0.8, rel=0.02)
    halves = dropped([[0.5, 0.25, 0, 0]] * 40, 0.2)  # a further choice that counts a half
    assert {tuple(row) for row in np.round(halves, 2)} == {(0.67, 0.33, 0), (0, 1, 0)}


@pytest.mark.filterwarnings("error::RuntimeWarning")  # a division by zero
def test_annotation_dropout_is_drawn_anew_by_each_generator_and_only_with_one():
    votes = [[4, 1, 0, 0]] * 30
    assert np.array_equal(dropped(votes, 0.3, 1), dropped(votes, 0.3, 1))
    assert not np.array_equal(dropped(votes, 0.3, 1), dropped(votes, 0.3, 2))
    assert np.array_equal(dropped(votes, 0.0), [[0.8, 0.2, 0]] * 30)
    assert dropped([[0, 0, 0, 2]], 0.3).tolist() == [[0, 0, 0]]


def test_what_no_loss_reads_is_not_looked_up():
    rows = labelled(make_config("wce"), make_manifest(), ["u4", "u1"])
    assert rows.classes.tolist() == [1, -1]
    assert (rows.votes, rows.attributes, rows.gender) == (None, None, None)


def test_attributes_and_gender_are_looked_up_by_id():
    config = make_config("ccc", "gender", attributes=["valence", "arousal"])
    rows = labelled(config, make_manifest(), ["u4", "u0", "u3"])
    np.testing.assert_array_equal(rows.attributes, [[4, 7], [NAN, 1.5], [NAN, NAN]])
    assert genders(make_manifest()) == ["female", "male"]
    assert rows.gender.tolist() == [1, 1, -1]  # u3 is of dev, its gender in no training clip
    assert one_hot(rows.gender, 2).tolist() == [[0, 1], [0, 1], [0, 0]]


def test_targets_that_are_not_there_are_named():
    with pytest.raises(UserError) as error:
        labelled(make_config("ccc"), make_manifest(), IDS)
    assert str(error.value) == (
        "m: no utterance has a value for dominance, which a loss of the head learns; leave it out "
        "of `attributes:`, or fill in the column."
    )
    with pytest.raises(UserError) as error:
        labelled(make_config("ce", "gender"), make_manifest(gender=["male"] * 5), IDS)
    assert str(error.value) == (
        "m: the training split has 1 gender, so that the loss `gender` has nothing to distinguish; "
        "remove it from `loss:`."
    )


@pytest.mark.parametrize(
    ("loss", "entry", "kept", "dropped"),
    [
        (["wce"], {}, [0, 4], [0, 4]),
        (["kld"], {}, [0, 1, 4], [0, 4]),
        (["kld"], {"votes": {"other": "keep"}}, [0, 1, 2, 4], [0, 4]),
        (["mse"], {"attributes": ["arousal"]}, [0, 4], [0, 4]),
        (["mse"], {"attributes": ["arousal", "valence"]}, [0, 1, 4], [0, 1, 4]),
        (["wce", "mse"], {"attributes": ["valence"]}, [0, 1, 4], [0, 4]),
        (["wce", "gender"], {}, [0, 1, 4], [0, 4]),
        (["mse", "gender"], {"attributes": ["arousal"]}, [0, 1, 4], [0, 4]),
    ],
)
def test_clips_are_selected_by_the_targets_of_the_losses(loss, entry, kept, dropped):
    for no_consensus, expected in (("keep", kept), ("drop", dropped)):
        config = make_config(*loss, no_consensus=no_consensus, **entry)
        rows = labelled(config, make_manifest(), IDS)
        assert teachable(config, rows).tolist() == expected


def test_rows_are_taken_with_all_that_is_known_of_them():
    config = make_config("kld", "mse", "gender", attributes=["arousal"])
    whole = labelled(config, make_manifest(speaker=list("abcde")), IDS)
    rows = whole.take(np.array([4, 0]))
    assert (len(rows), rows.utterances, list(rows.speakers)) == (2, ["u4", "u0"], ["e", "a"])
    assert rows.classes.tolist() == [1, 0]
    assert rows.votes.tolist() == [[0, 0, 0, 0], [3, 1, 0, 1]]
    assert rows.attributes.tolist() == [[7.0], [1.5]]
    assert rows.gender.tolist() == [1, 1]
    assert soft_labels(config, rows).tolist() == [[0, 1, 0], [0.75, 0.25, 0]]


def test_targets_are_mixed_row_by_row():
    targets = Targets(
        torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]),
        attributes=torch.tensor([[2.0, NAN], [4.0, 3.0], [6.0, 5.0]]),
        gender=torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]),
    )
    mixed = targets.mixed(torch.tensor([2, 0, 0]), torch.tensor([0.25, 0.5, 1.0]))
    assert mixed.classes.tolist() == [[0.25, 0.75], [0.5, 0.0], [0.0, 1.0]]
    assert mixed.votes is None
    expected = torch.tensor([[5.0, NAN], [3.0, NAN], [6.0, 5.0]])
    assert torch.equal(mixed.attributes.nan_to_num(-1), expected.nan_to_num(-1))
    assert mixed.gender.tolist() == [[0.0, 1.0], [0.5, 0.5], [0.0, 1.0]]


@needs_shared
def test_soft_labels_of_crema_d_agree_with_the_published_majority(tmp_path: Path):
    path = Path(os.environ["SER_SHARED"]) / "corpora" / "crema_d_tabulatedVotes.csv"
    table = pl.read_csv(path, infer_schema=False).filter(pl.col("").str.starts_with("1"))
    (tmp_path / "AudioWAV").mkdir()
    for name in table["fileName"]:
        (tmp_path / "AudioWAV" / f"{name}.wav").touch()
    (tmp_path / "tabulatedVotes.csv").write_bytes(path.read_bytes())
    manifest = import_corpus("crema-d", tmp_path)  # the emotions intended: the votes alone decide
    assert manifest.classes == tuple(sorted(SIX))
    config = make_config("soft_ce")
    shares = soft_labels(config, labelled(config, manifest, table["fileName"].to_list()))
    assert shares.shape == (7442, 6)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    letters = np.array([name[0].upper() for name in manifest.classes])
    best = shares == shares.max(axis=1, keepdims=True)
    # emoVote is a letter, or letters with ":" on a tie
    winners = ["".join(sorted(letters[row])) for row in best]
    published = ["".join(sorted(vote.split(":"))) for vote in table["emoVote"]]
    assert sum(len(vote) > 1 for vote in published) == 644
    assert winners == published
