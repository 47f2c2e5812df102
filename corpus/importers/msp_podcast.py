"""MSP-Podcast: natural English speech from podcasts, 8 classes, attributes, each annotator's label.

The corpus has published its ratings in three shapes, all read here: a csv with a column for every
answer (2.0), a csv with the answers in one text (1.12 and the Interspeech 2025 challenge:
"WORKER0001; Angry; Angry,Annoyed; A:5.0; V:2.0; D:4.0;"), and json (file -> worker -> answers;
1.6 to 1.11). Up to 1.11 the consensus is spelled labels_concensus, as csv or json. The older
releases are read as published code reads them; none was available for a test.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ser.corpus.cells import SPLIT_WORDS, counted
from ser.corpus.columns import FURTHER, VOTE
from ser.corpus.config import MSP_CLASSES
from ser.corpus.errors import UserError, first_line
from ser.corpus.importers.registry import importer, one_of
from ser.corpus.manifest import Manifest
from ser.corpus.tables import named_columns, read_table, read_text

LETTERS = dict(zip("ASHUFDCN", MSP_CLASSES, strict=True))
NO_CLASS = ("O", "X")  # other, no agreement
OTHER = "other"  # the class of O, if it is one
SECOND = (
    *MSP_CLASSES,
    *("amused", "annoyed", "concerned", "confused", "depressed", "disappointed", "excited"),
    "frustrated",
)
RESTORE = "restore the file of the release"
TESTS = ("Test1", "Test2", "Test3")
LABELS = ("Labels", "labels", "Label", "label")
AUDIO = ("Audios", "Audio", "audios", "audio")
CONSENSUS = tuple(f"labels_con{s}ensus.{end}" for end in ("csv", "json") for s in "sc")
DETAILED = ("labels_detailed.csv", "labels_detailed.json")
PARTITIONS = ("Partitions.txt", "Partition.txt", "partitions.txt", "partition.txt")
NOT_RATINGS = (ValueError, AttributeError, TypeError, LookupError, RecursionError)
COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender")
# The attributes of a rating end its text; the text before them may contain a semicolon.
ATTRIBUTES = r"(?:;\s*[AVD]\s*:\s*[\w.+-]*\s*)*;?\s*$"
CHOICES = rf"(?i);\s*((?:{'|'.join(SECOND)}|other)\s*(?:[,;-].*)?)$"


@importer("msp-podcast")
def msp_podcast(folder: Path, test: str = "Test3", other: str = "none") -> Manifest:
    """Import the MSP-Podcast corpus (releases 1.6 to 2.0 and the Interspeech 2025 challenge).

    Files: `Labels/labels_consensus.csv` (or .json; labels_concensus in releases up to 1.11); if
    present, `Labels/labels_detailed.csv` or `.json` for the votes, `Transcripts/<stem>.txt` for the
    words, `Partitions.txt` for the splits of files without labels, and `Audios/*_test3_*` for the
    challenge's test set, which no list names. The audio may be in subfolders of `Audios` or
    `Audio`. Paths are relative to `folder` ("Audios/MSP-PODCAST_0001_0008.wav").
    Options: `test`: which of Test1, Test2 and Test3 is the split "test"; the others are left out
    of every split (""). Development is dev. Releases before 1.11 have no Test3: give test=Test1.
    `other`: with other=class, files whose consensus is O are of a ninth class, other, whose votes
    are `votes.other`; by default (none) they have no class.
    Files whose consensus is X (no agreement), or O without other=class, and files without labels
    have a null emotion and keep their votes.
    Columns beside the usual: `votes.<class>` and `votes.other` count every rater's first choice,
    `votes2.<emotion>` (sixteen) and `votes2.other` the further choices.

    Licence: academic, signed by an institution; neither audio nor labels may be passed on. Cite:
    R. Lotfian, C. Busso, "Building naturalistic emotionally balanced speech corpus by retrieving
    emotional speech from existing podcast recordings", IEEE Transactions on Affective Computing
    10(4), 2019.
    """
    test = one_of("test", test, TESTS)
    nine = one_of("other", other, ("none", "class")) == "class"
    letters = LETTERS | ({"O": OTHER} if nine else {})
    frame = _consensus(folder)
    unlabelled = _unlabelled(folder, set(frame["FileName"]))
    frame = pl.concat([frame, unlabelled], how="diagonal")
    stem = pl.col("FileName").str.replace(r"\.\w+$", "")
    split = pl.col("Split_Set").str.to_lowercase()
    splits = SPLIT_WORDS | {name.lower(): "" for name in TESTS} | {test.lower(): "test"}
    letter = pl.col("EmoClass").str.to_uppercase()
    unknown = ["", "unknown"]
    notes = _notes(frame, splits, test)
    paths = _paths(folder, frame["FileName"].to_list())
    frame = frame.select(
        stem.alias("utterance"),
        pl.Series("path", paths, dtype=pl.String),
        split.replace_strict(splits, default="", return_dtype=pl.String).alias("split"),
        _unless(pl.col("SpkrID"), unknown).alias("speaker"),
        _unless(pl.col("Gender").str.to_lowercase(), unknown).alias("gender"),
        letter.replace_strict(letters, default=None, return_dtype=pl.String).alias("emotion"),
        pl.col("EmoAct").alias("arousal"),
        pl.col("EmoVal").alias("valence"),
        pl.col("EmoDom").alias("dominance"),
        corpus=pl.lit("msp-podcast"),
        language=pl.lit("en"),
    )
    words = [_words(folder / "Transcripts" / f"{name}.txt") for name in frame["utterance"]]
    frame = frame.with_columns(pl.Series("transcript", words, dtype=pl.String))
    for votes in _votes(folder):
        frame = frame.join(votes, on="utterance", how="left")
    classes = (*MSP_CLASSES, OTHER) if nine else MSP_CLASSES
    return Manifest(frame.sort("utterance"), classes, folder, notes=notes)


def _unless(text: pl.Expr, words: list[str]) -> pl.Expr:
    return pl.when(~text.str.to_lowercase().is_in(words)).then(text)


def _notes(frame: pl.DataFrame, splits: dict[str, str], test: str) -> list[str]:
    """Describe the words of the release that the importer does not know."""
    split, letter = frame["Split_Set"].drop_nulls(), frame["EmoClass"].drop_nulls()
    unknown_splits = split.filter(~split.str.to_lowercase().is_in(list(splits)))
    unknown_classes = letter.filter(~letter.str.to_uppercase().is_in([*LETTERS, *NO_CLASS, ""]))
    notes = []
    if len(unknown_splits):
        notes.append(f"unknown Split_Set, imported without a split: {counted(unknown_splits)}")
    if len(unknown_classes):
        notes.append(f"unknown EmoClass, imported without a class: {counted(unknown_classes)}")
    lower = set(split.str.to_lowercase())
    if test.lower() not in lower:
        tests = [name for name in TESTS if name.lower() in lower]
        notes.append(
            f"no file is in {test}, so the test split is empty"
            + (f"; this release has {' and '.join(tests)}: use test={tests[0]}" if tests else "")
        )
    return notes


def _first(folder: Path, *levels: Sequence[str]) -> Path | None:
    """Return the first existing path whose parts have these names, level by level."""
    paths = [folder]
    for names in levels:
        paths = [path / name for path in paths for name in names if (path / name).exists()]
    return paths[0] if paths else None


def _consensus(folder: Path) -> pl.DataFrame:
    path = _first(folder, LABELS, CONSENSUS)
    if path is None:
        raise UserError(
            f"{folder / LABELS[0] / CONSENSUS[0]}: there is no such file; give the "
            "MSP-Podcast folder that contains Labels (labels_consensus or labels_concensus, .csv "
            "or .json) and Audios."
        )
    frame = read_table(path).frame if path.suffix == ".csv" else _consensus_from_json(path)
    frame = named_columns(frame, COLUMNS, path, RESTORE, optional=["Split_Set"])
    has_splits = "Split_Set" in frame.columns
    frame = frame.join(_partitions(folder), on="FileName", how="left", suffix=" listed")
    if has_splits:  # a file that the labels put into no split may be listed
        split = pl.coalesce(pl.col("Split_Set").replace("", None), "Split_Set listed")
        frame = frame.with_columns(split.alias("Split_Set"))
    return frame.select(*COLUMNS, "Split_Set")


def _consensus_from_json(path: Path) -> pl.DataFrame:
    """Read file -> answers, or file -> a list of one such mapping, as a table of text."""
    rows = []
    try:
        for file, value in json.loads(read_text(path)).items():
            answers = value[0] if isinstance(value, list) else value
            cells = {k: None if v is None else str(v).strip() for k, v in answers.items()}
            rows.append({"EmoClass": cells.get("EmoClass_Major"), **cells, "FileName": file})
    except NOT_RATINGS as error:
        raise UserError(
            f"{path}: not the labels of MSP-Podcast ({first_line(error)}); {RESTORE}."
        ) from error
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _partitions(folder: Path) -> pl.DataFrame:
    """Read Partitions.txt ("Train; MSP-PODCAST_0001_0008.wav"): FileName, Split_Set."""
    path = _first(folder, PARTITIONS)
    lines = read_text(path).splitlines() if path else []
    pairs = [[part.strip() for part in line.split(";")][:2] for line in lines if ";" in line]
    schema = {"Split_Set": pl.String, "FileName": pl.String}
    return pl.DataFrame(pairs, schema=schema, orient="row").unique("FileName", maintain_order=True)


def _unlabelled(folder: Path, labelled: set[str]) -> pl.DataFrame:
    audio = _first(folder, AUDIO) or folder / AUDIO[0]
    extra = pl.DataFrame(
        {"FileName": [path.name for path in audio.glob("[!.]*_test3_*")]},
        schema={"FileName": pl.String},
    )
    listed = pl.concat(
        [_partitions(folder), extra.with_columns(pl.lit("Test3").alias("Split_Set"))],
        how="diagonal",
    )
    return listed.filter(~pl.col("FileName").is_in(labelled)).unique("FileName")


def _paths(folder: Path, names: Sequence[str]) -> list[str]:
    """Find every file within the audio folder: directly, or in folders of it (1.9)."""
    audio = _first(folder, AUDIO) or folder / AUDIO[0]
    index: dict[str, str] = {}
    if audio.is_dir() and any(entry.is_dir() for entry in os.scandir(audio)):
        for path in sorted(audio.rglob("*.wav")):
            index.setdefault(path.name, path.relative_to(folder).as_posix())
    return [index.get(name, f"{audio.name}/{name}") for name in names]


def _words(path: Path) -> str | None:
    return path.read_text("utf-8", errors="replace").strip() if path.is_file() else None


def _votes(folder: Path) -> list[pl.DataFrame]:
    """Count first and further choices: two frames of `utterance` and counts, or none."""
    path = _first(folder, LABELS, DETAILED)
    if path is None:
        return []
    try:
        if path.suffix == ".csv":
            ratings = _ratings_from_table(read_table(path).frame)
        else:
            rows = list(_ratings_from_json(json.loads(read_text(path))))
            ratings = pl.DataFrame(rows, schema=["file", "first", "second"], orient="row")
    except (pl.exceptions.PolarsError, *NOT_RATINGS) as error:
        raise UserError(
            f"{path}: not the ratings of MSP-Podcast ({first_line(error)}); {RESTORE} or remove it."
        ) from error
    ratings = ratings.with_row_index("rater").with_columns(
        pl.col("file").str.replace(r"\.\w+$", "").alias("utterance")
    )
    further = ratings.with_columns(pl.col("second").str.split(",")).explode("second")
    return [
        _count(ratings.select("rater", "utterance", choice="first"), VOTE, MSP_CLASSES),
        _count(further.select("rater", "utterance", choice="second"), FURTHER, SECOND),
    ]


def _ratings_from_table(frame: pl.DataFrame) -> pl.DataFrame:
    """Return one row per rating of a csv: file, first choice, further choices with commas."""
    if "EmoClass_Major" in frame.columns:
        return frame.select(file="FileName", first="EmoClass_Major", second="EmoClass_Second")
    choices = pl.col(frame.columns[1]).str.replace(ATTRIBUTES, "").str.replace(r"^[^;]*", "")
    # "Other-…" is a rater's own words, so further choices begin at the next known choice.
    other = choices.str.contains(r"(?i)^;\s*other")
    return frame.select(
        pl.col("FileName").alias("file"),
        choices.str.extract(r"^;\s*([^;]*)").alias("first"),
        pl.when(other)
        .then(choices.str.replace(r"^;\s*[^;]*", "").str.extract(CHOICES))
        .otherwise(choices.str.extract(r"^;[^;]*;\s*(.*)$"))
        .alias("second"),
    )


def _ratings_from_json(document: dict[str, Any]) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield the same rows from a json; a list of workers is the format of older releases."""
    for file, workers in document.items():
        answers = workers.get("Workers") or list(workers.values())
        for answer in answers:
            yield file, answer.get("EmoClass_Major"), answer.get("EmoClass_Second")


def _count(choices: pl.DataFrame, prefix: str, names: Sequence[str]) -> pl.DataFrame:
    """Count the raters of an utterance who chose each of `names`, or anything else: other."""
    word = pl.col("choice").str.strip_chars().str.to_lowercase()
    return (
        choices.with_columns(word)
        .filter(pl.col("choice") != "")
        .with_columns(pl.when(pl.col("choice").is_in(list(names))).then("choice").alias("choice"))
        .unique(maintain_order=True)  # a rater's own words may contain a comma
        .group_by("utterance", maintain_order=True)
        .agg(
            *((pl.col("choice") == name).sum().alias(prefix + name) for name in names),
            pl.col("choice").is_null().sum().alias(prefix + OTHER),
        )
    )
