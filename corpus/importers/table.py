"""Any table of one row an utterance: csv, tsv or parquet, its columns named by options."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from corpus.errors import UserError
from corpus.importers.registry import importer
from corpus.manifest import VOTE, Manifest

SPLITS = {"development": "dev", "validation": "dev", "valid": "dev", "val": "dev"}


@importer("csv")
def table(
    folder: Path,
    *,
    table: str | Path = "",
    emotions: Mapping[str, str] | None = None,
    utterance: str | None = None,
    path: str | None = None,
    start: str | None = None,
    end: str | None = None,
    split: str | None = None,
    speaker: str | None = None,
    gender: str | None = None,
    emotion: str | None = None,
    arousal: str | None = None,
    valence: str | None = None,
    dominance: str | None = None,
    transcript: str | None = None,
) -> Manifest:
    """Import a table of your own.

    Files: `folder` is the audio folder that the paths start from; the table may lie anywhere.
    Options: `table`: a .csv, .tsv or .parquet with a header. `emotions`: how its emotions map to
    classes, as {"A": "angry", "H": "happy"}; others become null; without it they stay as they are.
    Every other option names the table's column for the manifest's column of that name; left out,
    the column of the same name is taken if there is one. `votes.<class>` columns are kept, further
    ones dropped. Without ids an utterance is called by the stem of its path. Splits named
    development, validation, valid or val count as dev, in any capitals.

    Licence and citation are those of your corpus.
    """
    mapped = {
        "utterance": utterance,
        "path": path,
        "start": start,
        "end": end,
        "split": split,
        "speaker": speaker,
        "gender": gender,
        "emotion": emotion,
        "arousal": arousal,
        "valence": valence,
        "dominance": dominance,
        "transcript": transcript,
    }
    frame = _read(table)
    for option, column in mapped.items():
        if column is not None and column not in frame.columns:
            raise UserError(
                f"{table}: there is no column '{column}' for {option}; its columns are: "
                f"{', '.join(frame.columns)}."
            )
    if path is None and "path" not in frame.columns:
        raise UserError(
            f"{table}: there is no column 'path'; say with path=COLUMN which of its columns names "
            f"the audio files: {', '.join(frame.columns)}."
        )
    source = {name: column or name for name, column in mapped.items()}
    frame = frame.select(
        *(pl.col(column).alias(name) for name, column in source.items() if column in frame.columns),
        *(name for name in frame.columns if name.startswith(VOTE)),
    )
    frame = frame.with_columns(*_clean(frame, emotions))
    return Manifest(frame, list(dict.fromkeys(emotions.values())) if emotions else None, table)


def _read(table: str | Path) -> pl.DataFrame:
    table = Path(table)
    if not table.is_file():
        raise UserError(
            f"{table}: there is no such table; give a .csv, .tsv or .parquet with table=FILE."
        )
    try:
        if table.suffix == ".parquet":
            return pl.read_parquet(table)
        # As text: an id such as 007 or a path such as 1e5 must not become a number.
        separator = "\t" if table.suffix == ".tsv" else ","
        return pl.read_csv(table, separator=separator, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(
            f"{table}: not readable as a table ({str(error).splitlines()[0]}); "
            "write it as .csv, .tsv or .parquet with a header line."
        ) from error


def _clean(frame: pl.DataFrame, emotions: Mapping[str, str] | None) -> list[pl.Expr]:
    changes = []
    if "utterance" not in frame.columns:
        stem = (
            pl.col("path").cast(pl.String).str.replace(r"^.*[/\\]", "").str.replace(r"\.\w+$", "")
        )
        changes.append(stem.alias("utterance"))
    if "split" in frame.columns:
        changes.append(pl.col("split").str.to_lowercase().replace(SPLITS))
    if "emotion" in frame.columns and emotions:
        mapping = {str(key): value for key, value in emotions.items()}
        changes.append(
            pl.col("emotion").cast(pl.String).replace_strict(mapping, default=None).alias("emotion")
        )
    return changes
