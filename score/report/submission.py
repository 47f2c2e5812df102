"""The Interspeech 2025 challenge's csv files of a run: emotions (task 1) and attributes (task 2).

    FileName,EmoClass                MSP-PODCAST_test3_0001.wav,N
    FileName,EmoAct,EmoVal,EmoDom    MSP-PODCAST_test3_0001.wav,4.012500,3.870000,4.331000

There is one row for every file of the split in the manifest, labelled or not, in the order of the
manifest or of the list of expected files. Attributes are written as predicted, not clipped to 1-7.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ser.cache.logits import HeadLogits
from ser.corpus.atomic import write_if_changed
from ser.corpus.errors import UserError
from ser.corpus.importers.msp_podcast import LETTERS
from ser.corpus.manifest import Manifest
from ser.score.heads import classifies, read_heads
from ser.score.record import PREDICTIONS, StackSummary, has_stack, read_predictions, stack_file
from ser.score.run import of_head, require_fitted_on
from ser.score.truth import PREDICTED

LETTER = {name: letter for letter, name in LETTERS.items()}
COLUMNS = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
FILE = "FileName"


def submit(
    run: Path,
    manifest: Manifest,
    split: str = "test",
    *,
    head: str | None = None,
    expected: Path | None = None,
    folder: Path | None = None,
) -> dict[Path, pl.DataFrame]:
    """Write `submission-emotion.csv` and `submission-attributes.csv`; return what each holds.

    The predictions are the stack's, or those of one `head`; the folder is the run's report, or
    `folder`. Emotions are written if classes are predicted, attributes if all three are. `expected`
    is a csv with a column FileName, or a text file of one name per line, that the files must match
    exactly.

    Raises `UserError` without any prediction, for a class without a letter, a number that is not
    finite, a file without a prediction or with several utterances, and unexpected files.
    """
    predicted, source = _of_stack(run) if head is None else _of_head(run, head)
    names = _files(manifest, split)
    if expected is not None:
        names = _in_order(names, expected, f"the split {split} of {manifest.source}")
    predicted = predicted.filter(pl.col("split") == split)
    rows = names.join(predicted, "utterance", "left", maintain_order="left")
    lacking = names.join(predicted, "utterance", "anti", maintain_order="left")
    if lacking.height:
        raise UserError(
            f"{source}: {_some(lacking['utterance'], 'utterance')} of the split {split} without "
            "a prediction; extract what failed, train the heads and fit the stack again."
        )
    tables: dict[str, pl.DataFrame] = {}
    if "prediction" in rows.columns:
        letter = pl.col("prediction").replace_strict(LETTER, return_dtype=pl.String)
        tables["emotion"] = rows.select(FILE, letter.alias("EmoClass"))
    if set(COLUMNS) <= set(rows.columns):
        tables["attributes"] = _attributes(rows, source)
    if not tables:
        raise UserError(
            f"{source}: it has neither classes nor all of {', '.join(COLUMNS)}; train heads that "
            "predict them."
        )
    folder = run / "report" if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"submission-{task}.csv": table for task, table in tables.items()}
    for path, table in files.items():
        write_if_changed(path, table.write_csv(float_precision=6))
    return files


def read_expected(path: Path) -> list[str]:
    """Read file names from a csv with a column FileName, or from the lines of a text file.

    Raises `UserError` for a file that is missing, empty, lacks the column, or repeats a name.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
        if lines and FILE in (cell.strip(' "') for cell in lines[0].split(",")):
            table = pl.read_csv(path, infer_schema=False, truncate_ragged_lines=True)
            lines = table[FILE].str.strip_chars().drop_nulls().to_list()
        elif lines and "," in lines[0]:
            raise UserError(
                f"{path}: there is no column {FILE}; give a csv that has one, or one name a line."
            )
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{path}: not readable as a list of files ({str(error).splitlines()[0]}); give a csv "
            f"with a column {FILE}, or one name a line."
        ) from error
    if not lines:
        raise UserError(f"{path}: the list is empty; name every expected file.")
    names = pl.Series(lines)
    twice = names.filter(~names.is_first_distinct()).unique(maintain_order=True)
    if len(twice):
        raise UserError(
            f"{path}: {_some(twice, 'file')} named more than once; name each file once."
        )
    return lines


def _of_stack(run: Path) -> tuple[pl.DataFrame, Path]:
    """Return utterance, split, prediction and the attributes, and the file they are from."""
    file, path = stack_file(run), run / "stack" / PREDICTIONS
    if not has_stack(run):
        raise UserError(
            f"{file}: there is no stack; fit it with `ser stack fit`, or submit a head with "
            "`--head NAME`."
        )
    record = StackSummary.read(file)
    headers = {n: HeadLogits.read_header(run / "heads" / n / "logits.h5") for n in record.heads}
    require_fitted_on(file, record.heads, {n: head.fingerprint for n, head in headers.items()})
    frame = read_predictions(run, record)
    if "prediction" in frame.columns:
        _require_letters([c[2:] for c in frame.columns if c.startswith("p.")], path)
    return _plain(frame), path


def _of_head(run: Path, head: str) -> tuple[pl.DataFrame, Path]:
    """Return the same of one head."""
    logits = read_heads(run / "heads", [head])[head]
    path = run / "heads" / head / "logits.h5"
    if classifies(logits):
        _require_letters(logits.classes, path)
    return _plain(of_head(logits)), path


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop the prefix of the predicted attributes."""
    return frame.rename(lambda name: name.removeprefix(PREDICTED))


def _require_letters(classes: Sequence[str], path: Path) -> None:
    for name in classes:
        if name not in LETTER:
            raise UserError(
                f"{path}: the class '{name}' has no letter in the challenge; train on its eight, "
                f"{', '.join(LETTER)}."
            )


def _files(manifest: Manifest, split: str) -> pl.DataFrame:
    """Return utterance and FileName of a split, in the order of the manifest."""
    rows = manifest.frame.filter(pl.col("split") == split)
    if not rows.height:
        raise UserError(
            f"{manifest.source}: no row has the split '{split}'; choose another with `--split`."
        )
    names = rows.select("utterance", pl.col("path").str.replace(r"^.*[/\\]", "").alias(FILE))
    twice = names.filter(~pl.col(FILE).is_first_distinct())[FILE].unique(maintain_order=True)
    if len(twice):
        raise UserError(
            f"{manifest.source}: {_some(twice, 'file')} of more than one utterance of {split}; a "
            "submission has one row a file."
        )
    return names


def _in_order(names: pl.DataFrame, expected: Path, where: str) -> pl.DataFrame:
    """Return the rows in the order of a list of exactly these files."""
    listed = pl.DataFrame({FILE: read_expected(expected)})
    missing = listed.join(names, FILE, "anti", maintain_order="left")[FILE]
    if len(missing):
        raise UserError(
            f"{expected}: {_some(missing, 'file')} missing from {where}; import the whole corpus, "
            "or give the list of this split."
        )
    extra = names.join(listed, FILE, "anti", maintain_order="left")[FILE]
    if len(extra):
        raise UserError(
            f"{expected}: {_some(extra, 'file')} of {where} but not in the list; take such rows "
            "out of the split, or give the list of this split."
        )
    return listed.join(names, FILE, "left", maintain_order="left")


def _attributes(rows: pl.DataFrame, source: Path) -> pl.DataFrame:
    for name in COLUMNS:
        broken = rows.filter(~pl.col(name).is_finite().fill_null(False))["utterance"]
        if len(broken):
            raise UserError(
                f"{source}: {_some(broken, 'utterance')} without a finite {name}; train the heads "
                "again with a lower lr."
            )
    return rows.select(FILE, *(pl.col(name).alias(column) for name, column in COLUMNS.items()))


def _some(names: pl.Series, noun: str) -> str:
    """Count and name the first: "2 files ('a.wav' is the first) are", "1 file ('a.wav') is"."""
    if len(names) == 1:
        return f"1 {noun} ('{names[0]}') is"
    return f"{len(names)} {noun}s ('{names[0]}' is the first) are"
