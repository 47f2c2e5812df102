"""Scores against raters' votes: by hand, and against scipy and scikit-learn."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import f1_score
from sklearn.metrics.pairwise import cosine_similarity

from ser.corpus.errors import UserError
from ser.corpus.importers.crema_d import CLASSES, read_votes
from ser.corpus.manifest import Manifest
from ser.score.config import ScoreConfig
from ser.score.distributions import (
    METRICS,
    SMOOTHING,
    cosine,
    entropy,
    jensen_shannon,
    kullback_leibler,
    score_distributions,
)
from ser.score.metrics import metric
from ser.score.run import score_run
from tests.score.factories import lines, printed


def two_distributions(rows=200, classes=6):
    rng = np.random.default_rng(0)
    votes = rng.multinomial(5, rng.dirichlet(np.full(classes, 0.4), rows))
    return votes, rng.dirichlet(np.full(classes, 0.3), rows)


def test_every_divergence_is_scipys_or_scikit_learns():
    votes, p = two_distributions()
    q = votes / votes.sum(axis=1, keepdims=True)
    smooth = (p + SMOOTHING) / (1 + 6 * SMOOTHING)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2, axis=1) ** 2)
    assert kullback_leibler(q, p) == pytest.approx(scipy_entropy(q, smooth, axis=1))
    assert entropy(q) == pytest.approx(scipy_entropy(q, base=2, axis=1))
    assert cosine(p, q) == pytest.approx(np.diag(cosine_similarity(p, q)))


def test_by_hand():
    # Of four raters three chose class 0; the system says 1/4 : 3/4.
    scores = score_distributions(
        np.array([[3, 1], [0, 0]]), np.array([[0.25, 0.75]] * 2), np.array([1, 1]), ["", ""]
    )
    assert (scores["n"], scores["speakers"]) == (1, None)  # nobody rated the second
    # m = (1/2, 1/2): H(m) = 1, H(p) = H(q) = 2 - 3/4 log2(3)
    assert scores["jsd"] == pytest.approx(1 - (2 - 0.75 * np.log2(3)))
    # 3/4 log 3 + 1/4 log(1/3)
    assert scores["kld"] == pytest.approx(0.5 * np.log(3), abs=1e-5)
    assert scores["cosine"] == pytest.approx((3 + 3) / 10)
    assert scores["soft_macro_f1"] == pytest.approx(0.5)  # 2 * 1/4 / (3/4 + 1/4) of both
    assert scores["hit_rate"] == 1.0


def test_a_class_without_a_vote_gives_no_hit_and_is_left_out_of_soft_f1():
    votes, p = np.array([[4, 0, 0], [0, 2, 0]]), np.array([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    scores = score_distributions(votes, p, np.array([2, 1]), ["a", "b"])
    assert scores["hit_rate"] == 0.5
    assert scores["soft_macro_f1"] == pytest.approx((2 * 0.5 / 1.5 + 1) / 2)
    # the smoothed p of the unanimous class: log(1 / 0.5), log(1 / 1)
    assert scores["kld"] == pytest.approx(np.log(2) / 2, abs=1e-5)
    worst = score_distributions(votes, np.eye(3)[[1, 2]], np.array([1, 2]), ["a", "b"])
    assert (worst["jsd"], worst["cosine"], worst["soft_macro_f1"]) == (1.0, 0.0, 0.0)
    assert worst["kld"] == pytest.approx(-np.log(SMOOTHING), abs=1e-5)


def test_unanimous_votes_and_hard_predictions_give_macro_f1():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 4, (2, 300))
    scores = score_distributions(
        5 * np.eye(4)[labels], np.eye(4)[predictions], predictions, [""] * 300
    )
    assert scores["soft_macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
    assert scores["hit_rate"] == pytest.approx((labels == predictions).mean())
    assert set(scores["by_entropy"]) == {"low"}


def test_the_interval_is_that_of_speakers_and_a_stratum_of_few_has_none():
    votes, p = two_distributions()
    speakers = [f"s{i % 20}" for i in range(200)]
    scores = score_distributions(votes, p, p.argmax(1), speakers, resamples=300, seed=3)
    q = votes / votes.sum(axis=1, keepdims=True)
    per_speaker = jensen_shannon(p, q).reshape(10, 20).mean(axis=0)
    rng = np.random.default_rng(3)
    drawn = [per_speaker[rng.integers(0, 20, 20)].mean() for _ in range(300)]
    assert scores["interval"]["jsd"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    for name in METRICS:
        low, high = scores["interval"][name]
        assert low < scores[name] < high
    few = score_distributions(votes, p, p.argmax(1), [f"s{i % 4}" for i in range(200)])
    assert (few["speakers"], set(few["interval"].values())) == (4, {None})
    assert few["by_entropy"]["low"]["interval"]["jsd"] is None


def test_strata_are_thirds_by_the_entropy_of_the_votes():
    votes = np.array([[4, 0, 0], [0, 4, 0], [3, 1, 0], [0, 1, 3], [2, 2, 0], [2, 1, 1]])
    p = np.full((6, 3), 1 / 3)
    speakers = [f"s{i}" for i in range(6)]
    strata = score_distributions(votes, p, np.zeros(6, int), speakers)["by_entropy"]
    assert {name: stratum["n"] for name, stratum in strata.items()} == dict.fromkeys(
        ("low", "medium", "high"), 2
    )
    middle = 2 - 0.75 * np.log2(3)
    limits = [edge for stratum in strata.values() for edge in stratum["entropy"]]
    assert limits == pytest.approx([0, 0, middle, middle, 1, 1.5])
    even = jensen_shannon(p[:1], np.eye(3)[:1])[0]
    assert strata["low"]["jsd"] == pytest.approx(even)
    assert strata["low"]["jsd"] > strata["medium"]["jsd"] > strata["high"]["jsd"]


def manifest(votes: dict) -> Manifest:
    frame = pl.DataFrame(
        {
            "utterance": ["dev1", "dev0", "dev2"],
            "path": "x.wav",
            "emotion": ["sad", "angry", None],
            **votes,
        }
    )
    return Manifest(frame, ("sad", "angry"))  # in another order than the head's


def test_votes_of_the_manifest_are_matched_by_id_and_class(tmp_path, write_head):
    logits = np.log([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]])
    write_head("a", {"dev": (logits, [0, 1, -1])})
    votes = {"votes.angry": [1, 3, 0], "votes.sad": [1, 1, 0], "votes.other": [8, 0, 5]}
    votes |= {"votes2.sad": [0, 0, 1]}
    metrics = score_run(tmp_path, ScoreConfig(), ["a"], manifest(votes))
    scores = metrics["dev"]["a"].distributions
    assert (scores.n, scores.scores["jsd"].value) == (
        2,
        pytest.approx(0, abs=1e-9),
    )  # of other, no vote
    merged = ScoreConfig(secondary_votes=0.5)
    scores = score_run(tmp_path, merged, ["a"], manifest(votes))["dev"]["a"].distributions
    assert scores.n == 3  # one has a further choice alone, and no consensus
    assert scores.scores["hit_rate"].value == 1.0
    text = printed(metrics)
    assert "dev: probabilities against the votes of the raters, 2 utterances\n" in text
    assert "a 2 0.000 [.000, .000] 0.000 1.000 1.000 1.000" in lines(text)
    assert max(map(len, text.splitlines())) <= 80
    plain = score_run(tmp_path, ScoreConfig(), ["a"], manifest({}))
    assert plain["dev"]["a"].distributions is None


def test_a_metric_of_ones_own_cannot_take_the_name():
    with pytest.raises(UserError, match=r"metrics\.json has this key"):
        metric("distributions")(lambda matrix: matrix.sum((-1, -2)))


@pytest.mark.skipif("SER_SHARED" not in os.environ, reason="SER_SHARED has the table of votes")
def test_two_halves_of_crema_ds_raters_differ_by_the_value_computed_by_hand():
    table = read_votes(Path(os.environ["SER_SHARED"]) / "corpora" / "crema_d_tabulatedVotes.csv")
    votes = table.select(f"votes.{name}" for name in CLASSES).to_numpy()
    # the raters in the order of their classes, every second one in the other half
    first = np.array([np.bincount(np.repeat(np.arange(6), v)[::2], minlength=6) for v in votes])
    second = votes - first
    assert len(votes) == 7442
    at = table["utterance"].to_list().index("1001_IEO_FEA_LO")
    # fear, happy, neutral, sad: 1, 2, 2, 0 of five against 1, 1, 2, 1 of five
    assert first[at][[2, 3, 4, 5]].tolist() == [1, 2, 2, 0]
    assert second[at][[2, 3, 4, 5]].tolist() == [1, 1, 2, 1]
    p, q = (half / half.sum(axis=1, keepdims=True) for half in (first, second))
    # happy: (0.4 log2(4/3) + 0.2 log2(2/3)) / 2 = 0.02451; sad: 0.2 log2(2) / 2 = 0.1
    assert jensen_shannon(p, q)[at] == pytest.approx(0.12451, abs=1e-5)
    scores = score_distributions(first, q, q.argmax(axis=1), [u[:4] for u in table["utterance"]])
    assert (scores["n"], scores["speakers"]) == (7442, 91)
    assert scores["jsd"] == pytest.approx((jensenshannon(p, q, base=2, axis=1) ** 2).mean())
