"""MSP-Podcast: natural English speech from podcasts, 8 classes, attributes, every rater's choice.

The corpus has published its ratings in three shapes, all read here: a csv with a column for every
answer (1.6, 2.0), a csv with the answers in one text (1.12 and the Interspeech 2025 challenge:
"WORKER0001; Angry; Angry,Annoyed; A:5.0; V:2.0; D:4.0;"), and json (file -> worker -> answers).
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from corpus.config import MSP_CLASSES
from corpus.errors import UserError
from corpus.importers.registry import importer, one_of
from corpus.manifest import FURTHER, VOTE, Manifest

LETTERS = {
    "A": "angry",
    "S": "sad",
    "H": "happy",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
}  # O (other) and X (no agreement) have no class
SECOND = (
    *MSP_CLASSES,
    "amused",
    "annoyed",
    "concerned",
    "confused",
    "depressed",
    "disappointed",
    "excited",
    "frustrated",
)
TESTS = ("Test1", "Test2", "Test3")
CONSENSUS = ("labels_consensus.csv", "labels_concensus.csv")  # the second in older releases
DETAILED = ("labels_detailed.csv", "labels_detailed.json")


@importer("msp-podcast")
def msp_podcast(folder: Path, test: str = "Test3") -> Manifest:
    """Import the MSP-Podcast corpus (any release with `labels_consensus.csv`).

    Files: `Labels/labels_consensus.csv`; when there, `Labels/labels_detailed.csv` or `.json` for
    the votes, `Transcripts/<stem>.txt` for the words, `Partitions.txt` for the splits of files
    without labels, and `Audios/*_test3_*` for the challenge's test set, which no list names.
    Paths are relative to `folder` ("Audios/MSP-PODCAST_0001_0008.wav").
    Options: `test`: which of Test1, Test2 and Test3 is the split "test"; the others are left out
    of every split (""). Development is dev.
    Files whose consensus is O (other) or X (no agreement), and files without labels, have a null
    emotion and keep their votes.
    Columns beside the usual: `votes.<class>` and `votes.other` count every rater's first choice,
    `votes2.<emotion>` (sixteen) and `votes2.other` the further choices.

    Licence: academic, signed by an institution; neither audio nor labels may be passed on. Cite:
    R. Lotfian, C. Busso, "Building naturalistic emotionally balanced speech corpus by retrieving
    emotional speech from existing podcast recordings", IEEE Transactions on Affective Computing
    10(4), 2019.
    """
    test = one_of("test", test, TESTS)
    frame = _consensus(folder)
    unlisted = _unlabelled(folder, set(frame["FileName"]))
    frame = pl.concat([frame, unlisted], how="diagonal")
    stem = pl.col("FileName").str.replace(r"\.\w+$", "")
    splits = {"train": "train", "development": "dev", "validation": "dev", test.lower(): "test"}
    frame = frame.select(
        stem.alias("utterance"),
        ("Audios/" + pl.col("FileName")).alias("path"),
        pl.col("Split_Set").str.to_lowercase().replace_strict(splits, default="").alias("split"),
        pl.col("SpkrID").replace(["Unknown", "unknown", ""], None).alias("speaker"),
        pl.col("Gender").str.to_lowercase().replace(["unknown", ""], None).alias("gender"),
        pl.col("EmoClass").replace_strict(LETTERS, default=None).alias("emotion"),
        pl.col("EmoAct").alias("arousal"),
        pl.col("EmoVal").alias("valence"),
        pl.col("EmoDom").alias("dominance"),
    )
    words = [_words(folder / "Transcripts" / f"{name}.txt") for name in frame["utterance"]]
    frame = frame.with_columns(pl.Series("transcript", words, dtype=pl.String))
    for votes in _votes(folder):
        frame = frame.join(votes, on="utterance", how="left")
    return Manifest(frame.sort("utterance"), MSP_CLASSES, folder)


def _consensus(folder: Path) -> pl.DataFrame:
    found = [p for p in (folder / "Labels" / name for name in CONSENSUS) if p.is_file()]
    if not found:
        raise UserError(
            f"{folder / 'Labels' / CONSENSUS[0]}: there is no such file; give the folder of "
            "MSP-Podcast that holds Labels and Audios."
        )
    frame = pl.read_csv(found[0], infer_schema=False)
    needed = ["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender"]
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise UserError(
            f"{found[0]}: the columns {', '.join(missing)} are missing; restore the file of the "
            "release."
        )
    if "Split_Set" not in frame.columns:
        frame = frame.join(_partitions(folder), on="FileName", how="left")
    return frame.select(*needed, "Split_Set")


def _partitions(folder: Path) -> pl.DataFrame:
    """Read Partitions.txt ("Train; MSP-PODCAST_0001_0008.wav"): FileName, Split_Set."""
    path = folder / "Partitions.txt"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    pairs = [[part.strip() for part in line.split(";")][:2] for line in lines if ";" in line]
    schema = {"Split_Set": pl.String, "FileName": pl.String}
    return pl.DataFrame(pairs, schema=schema, orient="row").unique("FileName", maintain_order=True)


def _unlabelled(folder: Path, labelled: set[str]) -> pl.DataFrame:
    audio = (path.name for path in (folder / "Audios").glob("[!.]*_test3_*"))
    extra = pl.DataFrame({"FileName": list(audio)}, schema={"FileName": pl.String})
    listed = pl.concat(
        [_partitions(folder), extra.with_columns(pl.lit("Test3").alias("Split_Set"))],
        how="diagonal",
    )
    return listed.filter(~pl.col("FileName").is_in(labelled)).unique("FileName")


def _words(path: Path) -> str | None:
    return path.read_text("utf-8", errors="replace").strip() if path.is_file() else None


def _votes(folder: Path) -> list[pl.DataFrame]:
    """Count first and further choices: two frames of `utterance` and counts, or none."""
    labels = folder / "Labels"
    found = [p for p in (labels / name for name in DETAILED) if p.is_file()]
    if not found:
        return []
    try:
        if found[0].suffix == ".csv":
            ratings = _ratings_of_table(pl.read_csv(found[0], infer_schema=False))
        else:
            rows = list(_ratings_of_json(json.loads(found[0].read_text("utf-8"))))
            ratings = pl.DataFrame(rows, schema=["file", "first", "second"], orient="row")
    except (pl.exceptions.PolarsError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"{found[0]}: not the ratings of MSP-Podcast ({str(error).splitlines()[0]}); "
            "restore the file of the release or remove it."
        ) from error
    ratings = ratings.with_columns(
        pl.col("file").str.replace(r"\.\w+$", "").alias("utterance"),
        pl.col("second").str.split(","),
    )
    further = ratings.explode("second")
    return [
        _count(ratings["utterance"], ratings["first"], VOTE, MSP_CLASSES),
        _count(further["utterance"], further["second"], FURTHER, SECOND),
    ]


def _ratings_of_table(frame: pl.DataFrame) -> pl.DataFrame:
    """Give every rating of a csv a row: file, first choice, further choices with commas."""
    if "EmoClass_Major" in frame.columns:
        return frame.select(file="FileName", first="EmoClass_Major", second="EmoClass_Second")
    answers = pl.col(frame.columns[1]).str.split(";")
    second = answers.list.get(2, null_on_oob=True)
    return frame.select(
        pl.col("FileName").alias("file"),
        answers.list.get(1, null_on_oob=True).alias("first"),
        # A rater without further choices leaves them out, so "A:5.0" comes third.
        pl.when(~second.str.contains(r"^\s*[AVD]:")).then(second).alias("second"),
    )


def _ratings_of_json(document: dict[str, Any]) -> Iterator[tuple[str, str | None, str | None]]:
    """Give every rating of a json the same row; a list of workers is an older release's."""
    for file, workers in document.items():
        answers = workers.get("Workers") or list(workers.values())
        for answer in answers:
            yield file, answer.get("EmoClass_Major"), answer.get("EmoClass_Second")


def _count(
    utterance: pl.Series, choice: pl.Series, prefix: str, names: Sequence[str]
) -> pl.DataFrame:
    """Count choices by utterance; a choice that is none of `names` counts as other."""
    word = pl.col("choice").str.strip_chars().str.to_lowercase()
    return (
        pl.DataFrame({"utterance": utterance, "choice": choice})
        .with_columns(word)
        .filter(pl.col("choice") != "")
        .group_by("utterance", maintain_order=True)
        .agg(
            *((pl.col("choice") == name).sum().alias(prefix + name) for name in names),
            (~pl.col("choice").is_in(list(names))).sum().alias(prefix + "other"),
        )
    )
