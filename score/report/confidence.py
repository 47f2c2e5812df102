"""The sections on confidence: whether it is calibrated, and what abstaining by it gains."""

from collections.abc import Mapping

import polars as pl

from ser.score.abstention import COVERAGES
from ser.score.report import curves
from ser.score.report.contents import Contents
from ser.score.report.formats import Table, frame_of
from ser.score.report.section import Section, with_figure
from ser.score.scores import ClassScores


def calibration_section(contents: Contents) -> Section | None:
    """Return the section on calibration; None for a system without probabilities."""
    if contents.classifier is None or contents.reliability is None:
        return None
    text = (
        f"The expected calibration error (ECE) is {contents.classes.ece:.3f}, in 15 bins of "
        "equal width, as published. The curve has bins of equal mass; points below the diagonal "
        "are over-confident."
    )
    frame = contents.reliability.select(
        pl.concat_list("lower", "upper").alias("Confidence bin"),
        "n",
        pl.col("confidence").alias("Confidence"),
        pl.col("accuracy").alias("Accuracy"),
    )
    table = Table("reliability", "Mean confidence and accuracy in bins of equal mass.", frame)
    figure = curves.reliability_figure(contents.reliability, contents.classifier.subject)
    return with_figure("calibration", "Calibration", text, figure, table)


def abstention_section(contents: Contents) -> Section | None:
    """Return the section on abstention; None for few utterances or no probabilities."""
    shown = contents.classifier
    if shown is None:
        return None
    systems = {
        name: scores
        for name, system in contents.metrics[shown.split].items()
        if (scores := system.classes) and scores.risk and scores.n >= len(COVERAGES)
    }
    if shown.system not in systems:
        return None
    text = (
        "What a system gains by predicting only the utterances that it is most confident of. "
        "Coverage is their share, risk the share of wrong predictions among them, confidence the "
        "highest probability. AURC, the mean of the risk over all coverages (Geifman et al. 2019), "
        f"is {systems[shown.system].aurc:.3f} for {shown.title}. `ser score --risk` chooses a "
        "threshold on dev."
    )
    figure = curves.abstention_figure(systems, shown.system, shown.split)
    return with_figure("abstention", "Abstention", text, figure, _abstention_table(systems))


def _abstention_table(systems: Mapping[str, ClassScores]) -> Table:
    """Make the table of the risk-coverage curves: AURC, and the risk at some coverages."""
    titles = {f"Risk at {c:.0%}": COVERAGES.index(c) for c in (1.0, 0.9, 0.8, 0.7, 0.5)}
    rows = [
        (name, scores.aurc, *(scores.risk[i] for i in titles.values()))
        for name, scores in systems.items()
        if scores.risk is not None
    ]
    schema = {"System": pl.String, **dict.fromkeys(("AURC", *titles), pl.Float64)}
    caption = "Risk, the share of wrong predictions, at coverages, and the area under the curve."
    return Table("abstention", caption, frame_of(rows, schema))
