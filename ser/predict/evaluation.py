"""How often a bundle's model errs on speakers and corpora that it has not seen: part of its record.

`ser pack --risk` writes it (`ser.packing.evaluation`). A bundle may be somebody else's, so that
everything in it has bounds.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ser.corpus.config import Section

# Text for a message or a table: one line, without control characters for a terminal.
Plain = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\z")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Interval = tuple[Share, Share]

ALL = "all"  # the column, and the group, of all utterances


class Score(Section):
    """The scores on one group of utterances, such as those of one language.

    Args:
        column: what the utterances are grouped by: corpus, language, gender, emotion, or all.
        group: the value of that column.
        utterances: how many there are.
        speakers: of how many speakers; None where unknown.
        accuracy: the share of right predictions.
        interval: the 95 % interval of the accuracy over speakers; None where there are too few.
        macro_f1: over the classes that occur; None of a single class.
        ece: the expected calibration error; None of a single class.
        coverage: the share of utterances with a confidence of `min_confidence` or more.
        confident_accuracy: the share of right predictions among them; None without any.

    >>> Score(column="all", group="all", utterances=10, accuracy=0.6, coverage=0.5,
    ...       confident_accuracy=0.8).confidently_wrong
    0.1
    """

    column: Plain
    group: Plain
    utterances: Annotated[int, Field(ge=1, lt=2**53)]
    speakers: Count | None = None
    accuracy: Share
    interval: Interval | None = None
    macro_f1: Share | None = None
    ece: Share | None = None
    coverage: Share
    confident_accuracy: Share | None = None

    @property
    def confidently_wrong(self) -> float:
        """Return the share of all utterances that are predicted with confidence, and wrongly."""
        return round(self.coverage * (1 - (self.confident_accuracy or 0.0)), 6)


class Corpus(Section):
    """A corpus that the model was trained on, with the terms of its licence."""

    name: Plain
    licence: Plain
    utterances: Count  # of training
    speakers: Count


class Evaluation(Section):
    """The scores of a bundle on what it has not seen.

    Args:
        corpora: what it was trained on.
        unseen_speakers: scores on the test speakers of those corpora.
        unseen_corpora: scores on each corpus by models that were trained on the others only.
        temperature: what the logarithms of the stack's probabilities were divided by, fitted on the
            predictions for unseen corpora.
        min_confidence: the confidence below which a prediction is `unsure` by default.
        risk: the share of wrong predictions that `min_confidence` was chosen for.
    """

    corpora: Annotated[tuple[Corpus, ...], Field(min_length=1, max_length=1000)]
    unseen_speakers: Annotated[tuple[Score, ...], Field(max_length=10_000)]
    unseen_corpora: Annotated[tuple[Score, ...], Field(max_length=10_000)]
    temperature: Annotated[float, Field(ge=1e-6, le=1e6)]
    min_confidence: Share
    risk: Share

    @model_validator(mode="after")
    def _summarized(self) -> Self:
        if not any(score.column == ALL for score in self.unseen_corpora):
            raise ValueError("unseen_corpora has no score of all utterances")
        return self

    @property
    def unseen(self) -> Score:
        """Return the score on all utterances of unseen corpora."""
        return next(score for score in self.unseen_corpora if score.column == ALL)

    def summary(self, name: str, licence: str | None) -> str:
        """Return a line: the model, its corpora, its licence, how often it is right and unsure."""
        corpora = ", ".join(corpus.name for corpus in self.corpora)
        terms = f"; {licence}" if licence else ""
        unseen = self.unseen
        line = (
            f"{name} ({corpora}{terms}): right on about {round(10 * unseen.accuracy)} of 10 clips "
            "from corpora that it has not seen."
        )
        if unseen.confident_accuracy is None:
            return line
        return (
            f"{line} By default it is unsure of about {round(10 * (1 - unseen.coverage))} of 10 "
            f"(confidence below {self.min_confidence:g}), and right on about "
            f"{round(10 * unseen.confident_accuracy)} of 10 of the others."
        )
