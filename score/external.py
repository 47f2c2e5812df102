"""The predictions of any tool, in a table, made ready to be scored like those of a run's systems.

Columns (capitals do not matter): `utterance` (or `path`, `file`, `filename`); `prediction` (or
`emotion`); optionally `p.<class>`, and arousal, valence, dominance (or `predicted.arousal`, …).

Rows are matched to utterances by id. An id may be the name of a file, with a suffix and folders, as
long as it can mean one utterance only. Rows of no utterance are left out and counted. A split of
which the table has no row is left out; one of which it lacks some is refused, as a challenge
refuses an incomplete submission, or with `partial` scored without them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from ser.corpus.cells import numbers, texts, without_unknown
from ser.corpus.columns import ATTRIBUTES
from ser.corpus.decoding.suffixes import SUFFIXES
from ser.corpus.errors import UserError, listed, plural
from ser.corpus.tables import find_column, read_table
from ser.score.run import SCORED
from ser.score.truth import PREDICTED, TRUTH, is_rated

IDS = ("utterance", "path", "file", "filename")
LABELS = ("prediction", "emotion")
PROBABILITY = "p."
ROUNDING = 0.05  # by how much the probabilities of a row may exceed 1, as rounded ones do


@dataclass(frozen=True)
class External:
    """The predictions of a tool for the utterances of a corpus.

    `frame` has the columns of a system's predictions (`ser.score.run.of_head`). `classes` are the
    corpus's, followed by those that only the tool predicts. `missing` counts the utterances of each
    split that have no prediction; `notes` are sentences about the table.
    """

    name: str
    classes: tuple[str, ...]
    frame: pl.DataFrame
    missing: dict[str, int]
    notes: tuple[str, ...]


def read_external(
    path: Path, truth: pl.DataFrame, classes: Sequence[str], *, partial: bool = False
) -> External:
    """Read a table of predictions.

    Args:
        path: a csv, tsv or Parquet file.
        truth: utterance, split, label (-1 for none) and `truth.<attribute>` of the corpus.
        classes: the corpus's classes, in the order of `label`.
        partial: score also a split in which some utterances have no prediction.

    Raises `UserError` for a table without ids or predictions, an id that can mean two utterances,
    two rows of one utterance, predictions none of which is a class, and missing predictions.
    """
    table, source = read_table(path).frame, str(path)
    name = _column(table, IDS, source)
    if name is None:
        columns = listed(table.columns)
        raise UserError(f"{source}: there is no column 'utterance'; its columns are: {columns}.")
    given = texts(table[name], source).fill_null("").alias("given")
    ids = _matched(given.to_list(), truth["utterance"].to_list(), source)
    predicted, further = _predictions(table, given, classes, source)
    rows = predicted.with_columns(pl.Series("utterance", ids, pl.String))
    unknown = rows["utterance"].null_count()
    if unknown == rows.height:
        raise UserError(
            f"{source}: none of its {plural(unknown, 'row')} is of an utterance of the corpus "
            f"('{given[0]}' is the first id); its ids must be those of the manifest."
        )
    frame = truth.select("utterance", "split").join(
        rows.drop_nulls("utterance"), "utterance", maintain_order="left"
    )
    frame, missing = _complete(frame, truth, source, partial)
    notes = [f"{source}: {plural(unknown, 'row')} of no utterance left out."] if unknown else []
    if further:
        notes.append(
            f"{source}: it predicts {listed(further)}, which no utterance is: those are wrong."
        )
    notes += [
        f"{source}: {plural(count, 'utterance')} of {split} without a prediction left out."
        for split, count in missing.items()
        if count
    ]
    return External(path.name, (*classes, *further), frame, missing, tuple(notes))


def _column(table: pl.DataFrame, names: Sequence[str], source: str) -> str | None:
    """Return the first of these columns that the table has."""
    columns = (find_column(table.columns, n, source, f"rename one to {n}") for n in names)
    return next((column for column in columns if column is not None), None)


def _matched(given: Sequence[str], ids: Sequence[str], source: str) -> list[str | None]:
    """Return the utterance that each id of a table means; None for none.

    Raises `UserError` for an id that can mean two, and an utterance that two rows mean.
    """
    own_ids = set(ids)
    by_name: dict[str, list[str]] = defaultdict(list)
    for utterance in ids:
        for name in _names(utterance):
            by_name[name].append(utterance)
    matched: list[str | None] = []
    seen: dict[str, str] = {}
    for text in given:
        candidates = [text] if text in own_ids else _first(by_name, text)
        if len(candidates) > 1:
            raise UserError(
                f"{source}: '{text}' can mean {listed(candidates, 3)}; write the ids as in the "
                "manifest."
            )
        match = candidates[0] if candidates else None
        if match in seen:
            raise UserError(
                f"{source}: '{seen[match]}' and '{text}' are the same utterance; keep one row of "
                "it."
            )
        if match is not None:
            seen[match] = text
        matched.append(match)
    return matched


def _first(by_name: dict[str, list[str]], text: str) -> list[str]:
    return next((by_name[name] for name in _names(text) if name in by_name), [])


def _names(text: str) -> Iterator[str]:
    """Yield an id without the suffix of an audio file, then without its folders too."""
    path = PurePosixPath(text.replace("\\", "/"))
    stem = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    yield str(stem)
    if stem.name != str(stem):
        yield stem.name


def _predictions(
    table: pl.DataFrame, given: pl.Series, classes: Sequence[str], source: str
) -> tuple[pl.DataFrame, list[str]]:
    """Return the columns of predictions, and the classes that only the tool has."""
    columns: dict[str, pl.Series] = {}
    labels = _column(table, LABELS, source)
    probabilities = _probabilities(table, given, classes, source)
    if labels is not None:
        cells = without_unknown(texts(table[labels], source), keep=classes).str.strip_chars()
        if names := cells.drop_nulls().unique().to_list():
            columns["prediction"] = cells.replace({n: _spelled(n, classes) for n in names})
    elif names := list(probabilities):
        best = np.column_stack(list(probabilities.values())).argmax(axis=1)
        columns["prediction"] = pl.Series([names[i] for i in best], dtype=pl.String)
    for attribute in ATTRIBUTES:
        name = _column(table, (attribute, PREDICTED + attribute), source)
        if name is not None:
            columns[PREDICTED + attribute] = numbers(table[name], given, source).cast(pl.Float64)
    if not columns and labels is not None:
        raise UserError(f"{source}: the column '{labels}' is empty; write the predicted classes.")
    if not columns:
        raise UserError(
            f"{source}: there is no column 'prediction', and none of arousal, valence and "
            f"dominance; its columns are: {listed(table.columns)}."
        )
    further: list[str] = []
    if "prediction" in columns:
        chosen = columns["prediction"].drop_nulls().unique().sort().to_list()
        further = list(dict.fromkeys(n for n in (*chosen, *probabilities) if n not in classes))
        if chosen and not set(chosen) & set(classes):
            raise UserError(
                f"{source}: none of its predictions ({listed(chosen, 5)}) is a class of the corpus "
                f"({listed(classes)}); rename them."
            )
    if probabilities:
        zeros = pl.zeros(table.height, pl.Float64, eager=True)
        for name in (*classes, *further):
            columns[PROBABILITY + name] = probabilities.get(name, zeros)
    return pl.DataFrame([column.alias(name) for name, column in columns.items()]), further


def _spelled(name: str, classes: Sequence[str]) -> str:
    """Return a name in the spelling of the classes, where only capitals differ."""
    spelling = {c.casefold(): c for c in classes}
    return name if name in classes else spelling.get(name.casefold(), name)


def _probabilities(
    table: pl.DataFrame, given: pl.Series, classes: Sequence[str], source: str
) -> dict[str, pl.Series]:
    """Return the probabilities by class; {} where the table has none.

    Raises `UserError` for one that is missing or not between 0 and 1.
    """
    columns: dict[str, pl.Series] = {}
    for name in table.columns:
        if not name.lower().startswith(PROBABILITY):
            continue
        label = _spelled(name[len(PROBABILITY) :], classes)
        if not label or label in columns:
            problem = f"is a second one of '{label}'" if label else "names no class"
            raise UserError(f"{source}: the column '{name}' {problem}; rename or remove it.")
        values = numbers(table[name], given, source).cast(pl.Float64)
        wrong = (values.is_null() | (values < 0) | (values > 1)).arg_true()
        if len(wrong):
            raise UserError(
                f"{source}: {name} is {table[name][wrong[0]]} for '{given[wrong[0]]}'; "
                "probabilities are numbers from 0 to 1, in every row."
            )
        columns[label] = values
    if columns:
        sums = pl.DataFrame(list(columns.values())).sum_horizontal()
        odd = ((sums > 1 + ROUNDING) | (sums <= 0)).arg_true()
        if len(odd):
            raise UserError(
                f"{source}: the probabilities of '{given[odd[0]]}' sum to {sums[odd[0]]:.4g}, not "
                "to 1; divide them by their sum, or leave these columns out."
            )
    return columns


def _complete(
    frame: pl.DataFrame, truth: pl.DataFrame, source: str, partial: bool
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the rows of the splits that are scored, and how many utterances each lacks."""
    predicted = [name for name in frame.columns if name not in ("utterance", "split")]
    ratings = [name.removeprefix(TRUTH) for name in truth.columns if name.startswith(TRUTH)]
    scored = is_rated([name for name in ratings if PREDICTED + name in predicted])
    if "prediction" in predicted:
        scored |= pl.col("label") >= 0
    needed = truth.filter(scored)
    frame = frame.drop_nulls(predicted)
    missing = {}
    for split in SCORED:
        rows = needed.filter(pl.col("split") == split)
        lacking = rows.join(frame, "utterance", "anti", maintain_order="left")["utterance"]
        if len(lacking) == rows.height:
            continue
        missing[split] = len(lacking)
        if len(lacking) and not partial:
            raise UserError(
                f"{source}: {len(lacking)} of {plural(rows.height, 'utterance')} of {split} have "
                f"no prediction ('{lacking[0]}' is the first); a challenge refuses such a file: "
                "add them, or give --partial to score the others alone."
            )
    return frame, missing
