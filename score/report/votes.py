"""The section on the votes of the raters: how close a system's probabilities are to them."""

from collections.abc import Mapping

import plotly.graph_objects as go
import polars as pl

from ser.corpus.errors import plural
from ser.score.distributions import METRICS
from ser.score.report.contents import Contents
from ser.score.report.figures import BLUE, FEWEST, Figure, error_bars
from ser.score.report.formats import Schema, Table, frame_of
from ser.score.report.section import Section, drawn
from ser.score.report.tables import cells_of, missing_interval, with_intervals
from ser.score.scores import VoteScores
from ser.score.tables import stratum_title

TITLES = ("JSD", "KLD", "Cosine", "Soft macro-F1", "Hit rate")
COLUMNS: Schema = {"n": pl.Int64, **with_intervals(TITLES)}


def votes_section(contents: Contents) -> Section | None:
    """Return the section on votes; None for a corpus without votes."""
    shown = contents.classifier
    scores = contents.scores.distributions
    if shown is None or scores is None:
        return None
    text = (
        f"How close the probabilities are to the distribution of the raters' votes, on "
        f"{plural(scores.n, 'utterance')} of {shown.split} with a vote for a class, whether the "
        "raters agree or not. Utterances on which they disagree (of high entropy) are shown apart."
    )
    strata = scores.by_entropy
    figures = drawn(strata_figure(strata, shown.subject))
    tables = [votes_table(contents, shown.split)]
    if len(strata) > 1:
        tables.append(strata_table(strata, shown.subject))
    return Section("votes", "Votes of the raters", text, figures=figures, tables=tables)


def votes_table(contents: Contents, split: str) -> Table:
    """Make the table of probabilities against the votes of the raters: a row a system."""
    rows = [
        (system, *_votes_cells(scores.distributions))
        for system, scores in contents.metrics[split].items()
        if scores.distributions is not None
    ]
    caption = (
        f"Probabilities on {split} against the votes of the raters, with 95 % intervals over "
        "resampled speakers: Jensen–Shannon divergence (JSD, bits) and Kullback–Leibler divergence "
        "from the raters (KLD, nats), the lower the better; cosine, soft macro-F1 and hit rate, "
        "the higher the better."
    )
    frame = frame_of(rows, {"System": pl.String} | COLUMNS)
    return Table("votes", caption, frame, no_interval=missing_interval(contents, split))


def strata_table(strata: Mapping[str, VoteScores], subject: str) -> Table:
    """Make the table of a system's scores by the entropy of the votes, a row a stratum."""
    rows = [(stratum_title(name, scores), *_votes_cells(scores)) for name, scores in strata.items()]
    caption = f"The same of {subject} by the entropy of the votes, in bits."
    frame = frame_of(rows, {"Entropy": pl.String} | COLUMNS)
    return Table("votes-entropy", caption, frame, no_interval="n/a")


def _votes_cells(votes: VoteScores) -> tuple[object, ...]:
    return votes.n, *cells_of(votes.scores, METRICS)


def strata_figure(strata: Mapping[str, VoteScores], subject: str) -> Figure | None:
    """Draw the Jensen-Shannon divergence from the votes by their entropy; None for few strata."""
    if len(strata) < FEWEST:
        return None
    titles = [stratum_title(name, scores) for name, scores in strata.items()]
    jsd = [scores.scores["jsd"] for scores in strata.values()]
    values = [score.value for score in jsd]
    dots = go.Scatter(x=titles, y=values, mode="markers", marker={"size": 10, "color": BLUE})
    dots.update(error_y=error_bars(jsd))
    plot = go.Figure(dots.update(hovertemplate="%{x}: %{y:.3f}<extra></extra>"))
    plot.update_xaxes(title_text="entropy of the votes, bits", type="category", range=[-0.5, 2.5])
    plot.update_yaxes(title_text="JSD, bits", rangemode="tozero")
    between = ", with 95 % intervals over speakers" if any(s.interval for s in jsd) else ""
    return Figure(
        "votes",
        f"Jensen–Shannon divergence between {subject} and the votes of the raters, in thirds of "
        f"the utterances by the entropy of the votes{between}.",
        f"Dots of Jensen-Shannon divergence by the entropy of the votes of {subject}.",
        plot,
        height=300,
        width=420,
    )
