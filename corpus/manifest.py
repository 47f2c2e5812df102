"""The manifest: one row an utterance, readable by eye, apart from any audio or array.

utterance   unique id, the key that everything later is aligned by
path        audio file, relative to the audio folder; any format libsndfile reads
start, end  seconds within the file; null means the file's own bounds
split       train | dev | test | "" (scored by heads, never learned from or evaluated)
speaker     id; null when unknown
gender      free text; null when unknown
emotion     one of the classes; null: no consensus, another emotion, or unlabelled
arousal, valence, dominance   1-7, null when unknown
transcript  human words; null when unknown
votes.<class>, votes.other    how many raters chose it (only where votes are known)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from corpus.errors import UserError

SPLITS = ("train", "dev", "test", "")
COLUMNS = pl.Schema(
    {
        "utterance": pl.String(),
        "path": pl.String(),
        "start": pl.Float64(),
        "end": pl.Float64(),
        "split": pl.String(),
        "speaker": pl.String(),
        "gender": pl.String(),
        "emotion": pl.String(),
        "arousal": pl.Float64(),
        "valence": pl.Float64(),
        "dominance": pl.Float64(),
        "transcript": pl.String(),
    }
)
VOTE = "votes."
FURTHER = "votes2."  # counts of raters' further choices, where a corpus has them
AUDIO = "ser.audio"  # metadata of a Parquet manifest: the folder its paths are relative to


class Manifest:
    """Hold the validated rows of one corpus.

    `frame` has every column of `COLUMNS` (missing ones are filled with null, `split` with "") and
    any `votes.*` and further columns of the source, ordered as in the source.

    Raises `UserError` for a missing `utterance` or `path`, an id that stands twice, an unknown
    split, an emotion outside `classes` (when classes are given), or an attribute outside 1-7.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        classes: Sequence[str] | None = None,
        source: str | Path = "manifest",
        audio: str | Path | None = None,
    ) -> None:
        self.source = str(source)
        self.audio = Path(audio) if audio is not None else None
        self.frame = _complete(frame, self.source)
        found = self.frame["emotion"].drop_nulls().unique().sort().to_list()
        self.classes = tuple(classes) if classes is not None else tuple(found)
        _check(self.frame, self.classes, self.source)

    @classmethod
    def read(cls, path: str | Path, classes: Sequence[str] | None = None) -> "Manifest":
        """Read a `.parquet` or `.csv` manifest; ids and labels stay text."""
        path = Path(path)
        if not path.is_file():
            raise UserError(
                f"{path}: there is no such manifest; make one with "
                f"`ser corpus import NAME FOLDER --out {path}`."
            )
        audio = None
        try:
            if path.suffix == ".parquet":
                frame = pl.read_parquet(path)
                audio = pl.read_parquet_metadata(path).get(AUDIO)
            else:
                text = {c: pl.String() for c, t in COLUMNS.items() if t == pl.String()}
                frame = pl.read_csv(path, schema_overrides=text, infer_schema_length=None)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(
                f"{path}: not readable as a table ({str(error).splitlines()[0]}); "
                "write it as .parquet or .csv with a header line."
            ) from error
        return cls(frame, classes, path, audio)

    def write(self, path: str | Path) -> None:
        """Write `.parquet`, or `.csv` when the name ends so, by an atomic rename."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        if path.suffix == ".csv":
            self.frame.write_csv(part)
        else:
            remembered = {AUDIO: str(self.audio.resolve())} if self.audio is not None else None
            self.frame.write_parquet(part, metadata=remembered)
        part.replace(path)

    def audio_folder(self, given: str | Path | None = None) -> Path:
        """Return the folder that `path` is relative to.

        The given one, else the one the manifest remembers, else the manifest's own folder.
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
        emotion = dict(zip(self.frame["utterance"], self.frame["emotion"], strict=True))
        return np.array([index.get(emotion[u], -1) for u in utterances], dtype=np.int64)

    def column(self, name: str, utterances: Sequence[str]) -> list[Any]:
        """Look up one column by id, in the order of `utterances`."""
        values = dict(zip(self.frame["utterance"], self.frame[name], strict=True))
        return [values[u] for u in utterances]

    def votes(self, utterances: Sequence[str], prefix: str = VOTE) -> np.ndarray:
        """Look up votes by id: float64 `(utterances, classes + 1)`, the last column of `other`.

        Other are all columns of the prefix that are of no class; 0 where a cell is null or a column
        is not there. Raises `UserError` when there is no column of any class.
        """
        columns = [prefix + name for name in self.classes]
        if not any(name in self.frame.columns for name in columns):
            raise UserError(
                f"{self.source}: there are no {prefix}<class> columns, so soft labels cannot be "
                "made; import a corpus with rater votes or use hard labels."
            )
        found = [name for name in self.frame.columns if name.startswith(prefix)]
        cells = self.frame.select(pl.col(found).cast(pl.Float64).fill_null(0))
        others = cells.select(pl.exclude(columns)).columns
        counts = cells.select(
            *(pl.col(name) if name in found else pl.lit(0.0).alias(name) for name in columns),
            pl.sum_horizontal(pl.lit(0.0), *others).alias("none of them"),
        ).to_numpy()
        at = {u: i for i, u in enumerate(self.frame["utterance"])}
        looked_up: np.ndarray = counts[[at[u] for u in utterances]]
        return looked_up


def _complete(frame: pl.DataFrame, source: str) -> pl.DataFrame:
    for name in ("utterance", "path"):
        if name not in frame.columns:
            raise UserError(
                f"{source}: the column '{name}' is missing; every row needs an id (utterance) "
                "and an audio file (path)."
            )
    frame = frame.with_columns(
        pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in COLUMNS.items()
        if name not in frame.columns
    )
    try:
        frame = frame.cast(COLUMNS)
        votes = [name for name in frame.columns if name.startswith(VOTE)]
        frame = frame.cast(
            {name: pl.Float64() for name in votes if not frame[name].dtype.is_numeric()}
        )
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{source}: a column has the wrong type ({reason}); start, end, the attributes and "
            "the votes are numbers, the others text."
        ) from error
    return frame.with_columns(
        pl.col("split").fill_null(""),
        pl.col("emotion", "speaker", "gender").replace("", None),
    )


def _check(frame: pl.DataFrame, classes: Sequence[str], source: str) -> None:
    empty = frame.filter(pl.any_horizontal(pl.col("utterance", "path").fill_null("") == ""))
    if empty.height:
        raise UserError(
            f"{source}: {empty.height} rows have no utterance id or no path; fill in both."
        )
    twice = frame.filter(pl.col("utterance").is_duplicated())["utterance"].unique().sort()
    if len(twice):
        raise UserError(
            f"{source}: utterance '{twice[0]}' stands more than once ({len(twice)} such ids); "
            "give every row an id of its own."
        )
    split = frame.filter(~pl.col("split").is_in(SPLITS))["split"]
    if len(split):
        raise UserError(
            f"{source}: split '{split[0]}' is unknown; use train, dev, test or leave it empty."
        )
    emotion = frame.filter(
        pl.col("emotion").is_not_null() & ~pl.col("emotion").is_in(list(classes))
    )["emotion"]
    if len(emotion):
        raise UserError(
            f"{source}: emotion '{emotion[0]}' is not one of the classes ({', '.join(classes)}); "
            "add it to corpus.classes in pipeline.yaml or leave the cell empty."
        )
    for name in ("arousal", "valence", "dominance"):
        bad = frame.filter(pl.col(name).is_not_null() & ~pl.col(name).is_between(1, 7))
        if bad.height:
            raise UserError(
                f"{source}: {name} is {bad[name][0]:g} for '{bad['utterance'][0]}'; attributes "
                "are on the 1-7 scale."
            )
    for name in (name for name in frame.columns if name.startswith(VOTE)):
        bad = frame.filter((pl.col(name) < 0) | ~pl.col(name).is_finite())
        if bad.height:
            raise UserError(
                f"{source}: {name} is {bad[name][0]:g} for '{bad['utterance'][0]}'; votes count "
                "raters, so 0 or more."
            )
    span = frame.filter(
        (pl.col("start").fill_null(0.0) < 0)
        | (pl.col("end").is_not_null() & (pl.col("end") <= pl.col("start").fill_null(0.0)))
    )
    if span.height:
        raise UserError(
            f"{source}: start and end of '{span['utterance'][0]}' are not a span of time; "
            "start is 0 or more and end is greater (seconds)."
        )
