"""Transcripts of every utterance: the same folder as features, small Parquet parts as shards."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import google_crc32c
import polars as pl

from cache.files import AGAIN, new_shard_name, now_ns, parquet, write_durably
from cache.folder import COMMIT_SECONDS, Damage, FeatureFolder
from corpus.errors import UserError

PART_ROWS = 256
WORDS: Any = pl.List(pl.Struct({"word": pl.String, "start": pl.Float32, "end": pl.Float32}))


@dataclass(frozen=True)
class Word:
    """Hold one word and when it was said, in seconds from the start of the utterance."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """Hold the words of one utterance and how sure the transcriber was.

    `avg_logprob` is the mean natural-log probability of the tokens, `no_speech_prob` is 0 to 1;
    `words` is empty unless their times were asked for.
    """

    text: str
    avg_logprob: float
    no_speech_prob: float
    language: str
    words: Sequence[Word] = ()


class TranscriptCache(FeatureFolder):
    """Open one transcriber's words.

    A row: utterance, text, avg_logprob (mean log-probability of the tokens), no_speech_prob,
    language, words (word, start, end in seconds), the `stat` and `source` of its audio, and the
    crc32c of all these.
    """

    content: ClassVar[str] = "transcripts"
    store: ClassVar[str] = "data"
    suffix: ClassVar[str] = ".parquet"
    INDEX: ClassVar[pl.Schema] = pl.Schema(
        {
            "utterance": pl.String,
            "text": pl.String,
            "avg_logprob": pl.Float32,
            "no_speech_prob": pl.Float32,
            "language": pl.String,
            "words": WORDS,
            "stat": pl.UInt64,
            "source": pl.UInt64,
            "crc32c": pl.UInt32,
            "shard": pl.String,
            "created": pl.Int64,
        }
    )

    def _shard_rows(self, shard: str) -> pl.DataFrame:
        if self.remote:
            self.remote.fetch(f"{self.store}/{shard}{self.suffix}")
        path = self.path / self.store / f"{shard}{self.suffix}"
        try:
            return pl.read_parquet(path).cast(self.INDEX).select(self.INDEX.names())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{path}: damaged ({error}); {AGAIN}.") from error

    def _damaged(self, shard: str, rows: pl.DataFrame, reason: str | None) -> Iterator[Damage]:
        bad = rows.filter(checksums(rows) != rows["crc32c"])["utterance"].to_list()
        if reason or bad:
            said = reason or f"{shard}: the words of {len(bad)} utterances are damaged"
            yield Damage(shard, said, bad)

    def texts(self, utterances: Sequence[str]) -> list[str | None]:
        """Look up the words by id; None where there are none yet."""
        index = self.index()
        words = dict(zip(index["utterance"], index["text"], strict=True))
        return [words.get(u) for u in utterances]

    def write_part(self, rows: pl.DataFrame, shard: str) -> None:
        """Write rows, sealed by their crc32c, as one part that is visible when this returns."""
        staged = self.staging / shard
        write_durably(staged, parquet(rows.with_columns(checksums(rows))))
        self.publish(staged, shard)

    @contextmanager
    def writer(self, part_rows: int = PART_ROWS) -> Iterator["TranscriptWriter"]:
        """Write transcripts; what is left is committed on leaving, also after an exception."""
        self.prepare()
        writer = TranscriptWriter(self, part_rows)
        try:
            yield writer
        finally:
            writer.commit()
        self.write_index()


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
        shard = new_shard_name()
        rows = [row | {"shard": shard, "created": now_ns(), "crc32c": None} for row in self._rows]
        frame = pl.DataFrame(rows, schema=self.cache.INDEX)
        self.cache.write_part(frame, shard)
        self._rows = []


def checksums(rows: pl.DataFrame) -> pl.Series:
    """Return the crc32c that each row should have."""
    return pl.Series("crc32c", map(checksum, rows.iter_rows(named=True)), pl.UInt32)


def checksum(row: Mapping[str, Any]) -> int:
    """Return the crc32c of all else that a row says: Parquet has none of its own."""
    said = json.dumps(dict(row) | {"crc32c": None})  # a float's shortest text is exact
    crc: int = google_crc32c.value(said.encode())
    return crc
