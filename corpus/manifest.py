"""The manifest: one row per utterance, readable by eye, apart from any audio or array.

utterance   unique id, the key that everything later is aligned by
path        audio file, relative to the audio folder; any format libsndfile reads
start, end  seconds within the file; null means the file's own bounds
split       train | dev | test | "" (scored by heads, never learned from or evaluated)
speaker     id; null when unknown
gender      free text; null when unknown
emotion     one of the classes; null: no consensus, another emotion, or unlabelled
arousal, valence, dominance   1-7, null when unknown
transcript  human words; null when unknown
corpus      name of the corpus, which distinguishes the parts of a joined one; null when unknown
language    code of ISO 639-1, as de; null when unknown
session     recording session; null when unknown
fold        name of the fold of a published protocol; null where there is none
votes.<class>, votes.other    how many raters chose it (only where votes are known)
synthetic   true where the speech was synthesized; models trained on it carry a note (optional)
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ser.corpus import parquet
from ser.corpus.atomic import write_durably
from ser.corpus.columns import SYNTHETIC, VOTE, complete, require_valid, typed
from ser.corpus.errors import UserError, plural, shown
from ser.corpus.tables import read_table, with_slashes

SAMPLE = 100  # audio files that are looked for
AUDIO = "ser.audio"  # metadata of a Parquet manifest: the folder its paths are relative to


class Manifest:
    """The validated rows of one corpus, one for each utterance.

    Args:
        frame: the table; `utterance` and `path` are required, other columns of `COLUMNS` may be
            missing, further ones are kept. Column names are case-insensitive.
        classes: the emotions, in the order of the logits; by default those that occur, sorted.
        source: where the rows come from, for messages.
        audio: the folder that `path` is relative to.
        notes: remarks of an import about its source.

    Other words for a split (validation) and for a missing value (NaN, NA) are understood. Raises
    `UserError` for a missing `utterance` or `path`, an id that appears twice, an unknown split, an
    emotion outside `classes`, text in a column of numbers, or an attribute outside 1 to 7.

        >>> rows = {"utterance": ["a", "b"], "path": ["a.wav", "b.wav"], "emotion": ["sad", "ok"]}
        >>> manifest = Manifest(pl.DataFrame(rows))
        >>> len(manifest), manifest.classes
        (2, ('ok', 'sad'))
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        classes: Sequence[str] | None = None,
        source: str | Path = "manifest",
        audio: str | Path | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.source = str(source)
        self.notes = tuple(notes)
        self.audio = Path(audio) if audio is not None else None
        self.frame = complete(frame, self.source, classes or ())
        emotions = self.frame["emotion"].drop_nulls().unique().sort().to_list()
        self.classes = tuple(emotions if classes is None else classes)
        require_valid(self.frame, self.classes, self.source)

    @classmethod
    def read(cls, path: str | Path, classes: Sequence[str] | None = None) -> "Manifest":
        """Read a `.parquet` or `.csv` manifest; ids and labels stay text."""
        path = Path(path)
        if not path.is_file():
            raise UserError(
                f"{path}: there is no such manifest; make one with "
                f"`ser corpus import NAME FOLDER --out {path}`."
            )
        table = read_table(path)
        if table.separator is not None:
            manifest = cls(typed(table), classes, path, notes=table.notes)
            manifest.frame = with_slashes(manifest.frame, path.parent)
            return manifest
        try:
            audio = pl.read_parquet_metadata(path).get(AUDIO)
        except parquet.ERRORS:
            audio = None
        return cls(table.frame, classes, path, audio)

    def write(self, path: str | Path) -> None:
        """Write `.parquet` with a checksum, or `.csv` by its name, through an atomic rename."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            write_durably(path, self.frame.write_csv())
        else:
            metadata = {AUDIO: str(self.audio.resolve())} if self.audio is not None else {}
            write_durably(path, parquet.encode(self.frame, metadata))

    def audio_folder(self, given: str | Path | None = None) -> Path:
        """Return the folder that `path` is relative to.

        The given one, else the one recorded in the manifest, else the manifest's own folder.
        """
        return Path(given or self.audio or Path(self.source).parent)

    def __len__(self) -> int:
        return self.frame.height

    def utterances(self, split: str | None = None) -> list[str]:
        """List the ids of a split (of all rows when None), in the order of the manifest."""
        frame = self.frame if split is None else self.frame.filter(pl.col("split") == split)
        return frame["utterance"].to_list()

    def labels(self, utterances: Sequence[str]) -> np.ndarray:
        """Look up class indices by id: int64 `(utterances,)`, -1 where the emotion is null."""
        index = {name: i for i, name in enumerate(self.classes)}
        emotions = self.column("emotion", utterances)
        return np.array([index.get(emotion, -1) for emotion in emotions], dtype=np.int64)

    def synthetic_share(self, utterances: Sequence[str]) -> float:
        """Return the share of these utterances whose speech is synthetic, from 0 to 1."""
        if SYNTHETIC not in self.frame.columns or not utterances:
            return 0.0
        return float(np.mean(self.column(SYNTHETIC, utterances)))

    def column(self, name: str, utterances: Sequence[str]) -> list[Any]:
        """Look up one column by id, in the order of `utterances`."""
        values = dict(zip(self.frame["utterance"], self.frame[name], strict=True))
        return [values[u] for u in utterances]

    def class_counts(self, rows: pl.Series | None = None) -> list[int]:
        """Count the utterances of every class, and last those without one; of some rows, or all."""
        emotions = self.frame["emotion"] if rows is None else self.frame["emotion"].filter(rows)
        counts = dict(emotions.value_counts().iter_rows())
        return [counts.get(name, 0) for name in (*self.classes, None)]

    def votes(self, utterances: Sequence[str], prefix: str = VOTE) -> np.ndarray:
        """Look up votes by id: float64 `(utterances, classes + 1)`, the last column of `other`.

        Other sums the columns of the prefix that belong to no class; 0 where a cell is null or a
        column is missing. Raises `UserError` when there is no column of any class.
        """
        columns = [prefix + name for name in self.classes]
        if not any(name in self.frame.columns for name in columns):
            raise UserError(
                f"{self.source}: there are no {prefix}<class> columns, so soft labels cannot be "
                "computed; import a corpus with rater votes or use hard labels."
            )
        present = [name for name in self.frame.columns if name.startswith(prefix)]
        cells = self.frame.select(pl.col(present).cast(pl.Float64).fill_null(0))
        others = cells.select(pl.exclude(columns)).columns
        counts = cells.select(
            *(pl.col(name) if name in present else pl.lit(0.0).alias(name) for name in columns),
            pl.sum_horizontal(pl.lit(0.0), *others).alias("none of them"),
        ).to_numpy()
        row = {u: i for i, u in enumerate(self.frame["utterance"])}
        votes: np.ndarray = counts[[row[u] for u in utterances]]
        return votes


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Return `most` places of `count`, from the first to the last, or all of fewer: int64."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def missing_audio(manifest: Manifest) -> str:
    """Return how much of a manifest's audio is missing, in words; "" when none is.

    Of a large corpus a sample is looked for, evenly spaced.
    """
    folder, paths = manifest.audio_folder(), manifest.frame["path"].unique(maintain_order=True)
    files = [folder / path for path in paths[evenly_spaced(len(paths), SAMPLE)]]
    # Path.is_file raises for a name that is too long
    missing = [file for file in files if not os.path.isfile(file)]  # noqa: PTH113
    if not missing:
        return ""
    looked_for = " that were looked for" if len(files) < len(paths) else ""
    return (
        f"{len(missing)} of {plural(len(files), 'file')}{looked_for}, as {shown(str(missing[0]))}"
    )


def corpus_name(path: Path) -> str:
    """Name a corpus by the file of its manifest, or by the folder of a `manifest.parquet`."""
    generic = path.stem == "manifest" and path.parent.name
    return path.parent.name if generic else path.stem
