import polars as pl
import pytest

from ser.score.report import curves, votes
from tests.score.report.conftest import top


def test_each_training_is_thin_and_their_mean_thick():
    folds = pl.DataFrame(
        {
            "fold": [0, 0, 0, 1, 1, 1],
            "epoch": [0, 1, 2, 0, 1, 2],
            "train_loss": [2.0, 1.0, 0.5, 4.0, 1.0, 0.5],
            "dev_macro_f1": [0.1, 0.2, 0.2, 0.3, 0.4, 0.4],
        }
    )
    plain = pl.DataFrame({"epoch": [0], "train_loss": [1.5]})
    histories = {"folds": folds, "plain": plain}
    traces = curves.curves_figure(histories, dict.fromkeys(histories, "macro_f1")).plot.data
    assert [trace.line.width for trace in traces] == [0.7, 0.7, 2.5, 0.7, 0.7, 2.5, 2.5]
    assert traces[2].x == (1, 2, 3)
    assert traces[2].y == (3.0, 1.0, 0.5)
    assert traces[5].y == pytest.approx((0.2, 0.3, 0.3))
    assert (traces[6].mode, traces[6].y) == ("markers", (1.5,))
    assert [trace.name for trace in traces if trace.showlegend] == ["training loss", "dev score"]


def test_the_top_k_figure_has_a_line_a_split_and_rule_and_a_band():
    names = [trace.name for trace in curves.top_figure(top()).plot.data]
    assert names == [None, None, "dev, mean", "dev, plurality", "test, mean", "test, plurality"]
    one_speaker = top().with_columns(test_low=pl.lit(None, pl.Float64))
    assert len(curves.top_figure(one_speaker).plot.data) == 4
    only_dev = top().select("k", "head", "by", "dev", "dev_low", "dev_high")
    assert len(curves.top_figure(only_dev).plot.data) == 4


def test_strata_are_dots_with_intervals_and_two_are_too_few(full):
    strata = full.scores.distributions.by_entropy
    assert strata["low"].scores["jsd"].interval is None  # of four speakers
    strata["high"].scores["jsd"].interval = [0.1, 0.9]
    (dots,) = votes.strata_figure(strata, "the stack on test").plot.data
    assert dots.x == ("low (0.00)", "medium (0.81)", "high (1.00)")
    assert dots.y == tuple(scores.scores["jsd"].value for scores in strata.values())
    assert dots.error_y.array == (0, 0, pytest.approx(0.9 - dots.y[2]))
    del strata["low"]
    assert votes.strata_figure(strata, "the stack on test") is None
