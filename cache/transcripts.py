"""Transcripts of every utterance: the same folder as features, small Parquet parts as shards."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, ClassVar

import google_crc32c
import polars as pl

from ser.cache.files import AGAIN, new_shard_name, readable
from ser.cache.folder import COMMIT_SECONDS, Damage, FeatureFolder
from ser.corpus import parquet
from ser.corpus.atomic import write_durably
from ser.corpus.errors import UserError, plural

PART_ROWS = 256
WORDS: Any = pl.List(pl.Struct({"word": pl.String, "start": pl.Float32, "end": pl.Float32}))


@dataclass(frozen=True)
class Word:
    """One word and its times in seconds from the start of the utterance."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """The words of one utterance and the confidence of the transcriber.

    `avg_logprob` is the mean natural-log probability of the tokens, `no_speech_prob` is 0 to 1;
    `words` is empty unless the times of words were requested.
    """

    text: str
    avg_logprob: float
    no_speech_prob: float
    language: str
    words: Sequence[Word] = ()


class TranscriptCache(FeatureFolder):
    """The transcripts of one feature.

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

    def shard_rows(self, shard: str, check: bool = True) -> pl.DataFrame:
        """Read a shard's rows; see `FeatureFolder.shard_rows`."""
        if self.remote:
            self.remote.fetch(f"{self.store}/{shard}{self.suffix}")
        path = self.path / self.store / f"{shard}{self.suffix}"
        with readable(path, AGAIN):
            data = path.read_bytes()
        if check and parquet.check(data) == "damaged":
            raise UserError(f"{path}: it is damaged (its checksum differs); {AGAIN}.")
        try:
            rows = parquet.parse(data).cast(self.INDEX).select(self.INDEX.names())
        except (parquet.ParquetError, pl.exceptions.PolarsError) as error:
            raise UserError(f"{path}: it is damaged ({error}); {AGAIN}.") from error
        bad = self._bad_rows(rows) if check else []
        if bad:
            raise UserError(f"{path}: the words of '{bad[0]}' are damaged; {AGAIN}.")
        return rows

    @staticmethod
    def _bad_rows(rows: pl.DataFrame) -> list[str]:
        bad: list[str] = rows.filter(checksums(rows) != rows["crc32c"])["utterance"].to_list()
        return bad

    def _damage(self, shard: str, rows: pl.DataFrame, reason: str | None) -> Damage | None:
        path = self.path / self.store / f"{shard}{self.suffix}"
        bad = self._bad_rows(rows)
        if bad:
            reason = reason or f"{path}: the words of {plural(len(bad), 'utterance')} are damaged"
        elif reason is None and parquet.check(path.read_bytes()) == "damaged":
            reason = f"{path}: it is damaged (its checksum differs)"
        return Damage(shard, reason, bad) if reason else None

    def texts(self, utterances: Sequence[str]) -> list[str | None]:
        """Return the text of each utterance; None where there is none yet."""
        asked = pl.DataFrame({"utterance": utterances}, schema={"utterance": pl.String})
        index = self.index(ordered=False).select("utterance", "text")
        joined = asked.join(index, on="utterance", how="left", maintain_order="left")
        return joined["text"].to_list()

    def write_part(self, rows: pl.DataFrame, shard: str) -> None:
        """Write rows, sealed by their crc32c, as one part that is visible when this returns."""
        staged = self.staging / shard
        write_durably(staged, parquet.encode(rows.with_columns(checksums(rows))))
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
    """A writer of transcripts to the parts of one worker."""

    def __init__(self, cache: TranscriptCache, part_rows: int) -> None:
        self.cache = cache
        self.part_rows = part_rows
        self._rows: list[dict[str, object]] = []
        self._since = time.monotonic()

    def append(
        self, utterance: str, transcript: Transcript, stat_hash: int, content_hash: int
    ) -> None:
        """Add one row; raises `ValueError` for anything but a transcript."""
        require_transcript(transcript)
        row = {
            "utterance": utterance,
            **asdict(transcript),
            "stat": stat_hash,
            "source": content_hash,
        }
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
        own = {"shard": shard, "created": time.time_ns(), "crc32c": None}
        rows = [row | own for row in self._rows]
        frame = pl.DataFrame(rows, schema=self.cache.INDEX)
        self.cache.write_part(frame, shard)
        self._rows = []


def require_transcript(transcript: Transcript) -> None:
    """Raise `ValueError` for what cannot be written, so that one utterance does not lose a part."""
    if not isinstance(transcript, Transcript):
        raise ValueError(f"the result is of type {type(transcript).__name__}, not a transcript")
    numbers = [transcript.avg_logprob, transcript.no_speech_prob]
    texts = [transcript.text, transcript.language]
    for word in transcript.words:
        if not isinstance(word, Word):
            raise ValueError(f"a word is of type {type(word).__name__}")
        numbers += [word.start, word.end]
        texts.append(word.word)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"a text of the transcript is of type {type(text).__name__}")
        text.encode()  # raises a ValueError for half a surrogate pair
    for number in numbers:
        if not isinstance(number, Real) or not math.isfinite(number):
            raise ValueError(f"a number of the transcript is {number!r}")


def checksums(rows: pl.DataFrame) -> pl.Series:
    """Return the crc32c that each row should have, of its other values: Parquet has none."""
    # a float's shortest text is exact
    texts = (json.dumps(row | {"crc32c": None}) for row in rows.iter_rows(named=True))
    return pl.Series("crc32c", [google_crc32c.value(text.encode()) for text in texts], pl.UInt32)
