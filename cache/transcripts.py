"""Transcripts of every utterance: the same folder as features, small Parquet parts as shards."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import polars as pl

from cache.folder import (
    COMMIT_SECONDS,
    FeatureFolder,
    new_shard_name,
    now_ns,
    parquet,
    write_durably,
)
from corpus.errors import UserError

PART_ROWS = 256


@dataclass(frozen=True)
class Transcript:
    """Hold the words of one utterance and how sure the transcriber was.

    `avg_logprob` is the mean natural-log probability of the tokens, `no_speech_prob` is 0 to 1.
    """

    text: str
    avg_logprob: float
    no_speech_prob: float
    language: str


class TranscriptCache(FeatureFolder):
    """Open one transcriber's words.

    A row: utterance, text, avg_logprob (mean log-probability of the tokens), no_speech_prob,
    language, and the `stat` and `source` of its audio.
    """

    content: ClassVar[str] = "transcripts"
    INDEX: ClassVar[pl.Schema] = pl.Schema(
        {
            "utterance": pl.String,
            "text": pl.String,
            "avg_logprob": pl.Float32,
            "no_speech_prob": pl.Float32,
            "language": pl.String,
            "stat": pl.UInt64,
            "source": pl.UInt64,
            "shard": pl.String,
            "created": pl.Int64,
        }
    )

    def _shards(self) -> list[str]:
        return [p.stem for p in (self.path / "data").glob("*.parquet")]

    def _shard_rows(self, shard: str) -> pl.DataFrame:
        path = self.path / "data" / f"{shard}.parquet"
        try:
            return pl.read_parquet(path).cast(self.INDEX).select(self.INDEX.names())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{path}: damaged ({error}); delete it and extract again.") from error

    def texts(self, utterances: Sequence[str]) -> list[str | None]:
        """Look up the words by id; None where there are none yet."""
        index = self.index()
        words = dict(zip(index["utterance"], index["text"], strict=True))
        return [words.get(u) for u in utterances]

    @contextmanager
    def writer(self, part_rows: int = PART_ROWS) -> Iterator["TranscriptWriter"]:
        """Write transcripts; what is left is committed on leaving, also after an exception."""
        (self.path / "data").mkdir(exist_ok=True)
        writer = TranscriptWriter(self, part_rows)
        try:
            yield writer
        finally:
            writer.commit()


class TranscriptWriter:
    """Append transcripts to parts of one worker."""

    def __init__(self, cache: TranscriptCache, part_rows: int) -> None:
        self.cache = cache
        self.part_rows = part_rows
        self._rows: list[dict[str, Any]] = []
        self._since = time.monotonic()

    def append(self, utterance: str, transcript: Transcript, stat: int, source: int) -> None:
        """Add one row."""
        row = {"utterance": utterance, **asdict(transcript), "stat": stat, "source": source}
        self._rows.append(row)
        old = time.monotonic() - self._since >= COMMIT_SECONDS
        if old or len(self._rows) >= self.part_rows:
            self.commit()

    def commit(self) -> None:
        """Make everything appended so far visible by one rename."""
        self._since = time.monotonic()
        if not self._rows:
            return
        name = new_shard_name()
        schema = self.cache.INDEX
        frame = pl.DataFrame(
            [row | {"shard": name, "created": now_ns()} for row in self._rows], schema=schema
        )
        write_durably(self.cache.path / "data" / f"{name}.parquet", parquet(frame))
        self._rows = []
