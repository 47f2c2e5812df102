"""Files of transcripts that other programs wrote: a table, CTM, and the JSON of WhisperX.

    utterance,transcript,language                    words.csv (.tsv, .parquet); `language` optional
    u01 1 0.12 0.31 kids 0.97                        words.ctm: utterance, channel, start, duration,
                                                     word, confidence
    {"segments": [{"text": "Kids are …", "words": [{"word": "Kids", "start": 0.1, "end": 0.4}]}]}
                                                     u01.json, one file for each utterance

CTM is that of NIST's scoring programs: times in seconds, comments begin with `;;`, and the
confidence may be left out or NA. The log-probability of a transcript is then the mean of the
logarithms of its words' confidences; of WhisperX, the mean of its segments' `avg_logprob`. It is 0
where the file has none.
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from ser.cache.json_file import read_object
from ser.cache.transcripts import Transcript, Word
from ser.corpus.cells import texts as as_text
from ser.corpus.config import describe
from ser.corpus.errors import UserError, shown
from ser.corpus.rows import number_in
from ser.corpus.tables import find_column, read_table

LARGEST = 1 << 29  # bytes of a table or CTM
LONGEST = 100_000  # characters of a transcript
LATEST = 1e6  # s, eleven days
LEAST = 1e-9  # a confidence of 0 has no logarithm
UNDETERMINED = "und"  # the language code of ISO 639 for one that is not known
WHISPERX = "give the JSON that WhisperX writes"
FORMATS = "give a csv, tsv, parquet or ctm file, or a folder of WhisperX's JSON"
OTHERS = (".srt", ".vtt", ".ass", ".textgrid", ".eaf", ".stm")  # formats that are not read


Seconds = Annotated[float, Field(ge=0, le=LATEST)]


class _Word(BaseModel):
    """A word; those that WhisperX could not align, numbers for instance, have no times: NaN."""

    word: str
    start: Seconds = math.nan
    end: Seconds = math.nan


class _Segment(BaseModel):
    text: str = ""
    avg_logprob: float | None = None
    words: list[_Word] | None = None


class _WhisperX(BaseModel):
    """The JSON that WhisperX writes, as far as it is read."""

    segments: list[_Segment]
    language: str | None = None


@dataclass
class TranscriptFile:
    """The transcripts in a file by utterance, and the reasons why those of others are unusable.

    `words` are the words with their times, where the file has them. `unknown` are utterances of the
    file that were not requested, in order.
    """

    transcripts: dict[str, Transcript] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def add(self, utterance: str, transcript: Transcript) -> None:
        """Take a transcript, unless it is longer than any utterance's."""
        if len(transcript.text) > LONGEST:
            self.unusable[utterance] = f"its transcript has more than {LONGEST:,} characters"
        else:
            self.transcripts[utterance] = transcript


def read_transcripts(path: Path, utterances: Collection[str], language: str) -> TranscriptFile:
    """Read the transcripts of utterances.

    Args:
        path: a table, a .ctm file, or a folder of .json files that are called as their utterance.
        utterances: those that are wanted; of a folder, other files are not opened.
        language: of a transcript whose file names none.

    Raises `UserError` for a file that is empty or cannot be read, with the line where there is one.
    """
    suffix = path.suffix.lower()
    if suffix in OTHERS:
        raise UserError(f"{path}: transcripts are not read from {suffix} files; {FORMATS}.")
    try:
        if path.is_dir() or suffix == ".json":
            return _read_whisperx(path, utterances, language)
        if path.stat().st_size > LARGEST:
            raise UserError(
                f"{path}: over {LARGEST >> 20} MB, the limit for transcripts; keep the utterances "
                "of the manifest only."
            )
        return (_read_ctm if suffix == ".ctm" else _read_table)(path, utterances, language)
    except OSError as error:
        raise UserError(
            f"{path}: not readable ({error.strerror or error}); check its name and permissions."
        ) from error


def _read_table(path: Path, utterances: Collection[str], language: str) -> TranscriptFile:
    frame = read_table(path, importable=False).frame
    remedy = "name the columns utterance and transcript"
    column = partial(find_column, frame.columns, source=str(path), remedy=remedy)
    ids, texts = column("utterance"), column("transcript") or column("text")
    if ids is None or texts is None:
        missing = "utterance" if ids is None else "transcript"
        raise UserError(f"{path}: there is no column '{missing}'; {remedy}.")
    languages = column("language")
    columns = [as_text(frame[name], str(path)).to_list() for name in (ids, texts)]
    codes = as_text(frame[languages], str(path)).to_list() if languages else [None] * len(frame)
    result, seen = TranscriptFile(), set[str]()
    for number, (utterance, text, code) in enumerate(zip(*columns, codes, strict=True), 1):
        if not utterance:
            raise UserError(f"{path}: row {number} has no utterance; give its id.")
        if utterance in seen:
            raise UserError(
                f"{path}: the utterance '{shown(utterance)}' appears twice; keep one row."
            )
        seen.add(utterance)
        if utterance not in utterances:
            result.unknown.append(utterance)
        elif text is not None:
            result.add(utterance, Transcript(text, 0.0, 0.0, code or language))
    return result


def _read_ctm(path: Path, utterances: Collection[str], language: str) -> TranscriptFile:
    spoken: dict[str, list[tuple[Word, float | None]]] = {}
    unknown: dict[str, None] = {}
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        where = f"{path}: line {number}"
        try:
            cells = re.split(r"[ \t]+", line.decode().strip(" \t"))
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: it is not UTF-8; save the file as UTF-8.") from error
        if cells == [""] or cells[0].startswith(";;"):
            continue
        if not 5 <= len(cells) <= 8:
            raise UserError(
                f"{where}: it has {len(cells)} fields; give utterance, channel, start, duration, "
                "word, and optionally its confidence."
            )
        utterance, _, start, duration, text = cells[:5]
        if utterance not in utterances:
            unknown[utterance] = None
            continue
        first = number_in(where, "start", start, LATEST)
        end = first + number_in(where, "duration", duration, LATEST)
        confidence = None
        if len(cells) > 5 and cells[5].upper() not in ("NA", "-"):
            confidence = number_in(where, "confidence", cells[5], 1.0)
        spoken.setdefault(utterance, []).append((Word(text, first, end), confidence))
    if not spoken and not unknown:
        raise UserError(f"{path}: it has no words; {FORMATS}.")
    result = TranscriptFile(unknown=list(unknown))
    for utterance, words in spoken.items():
        words.sort(key=lambda pair: pair[0].start)
        confidences = [confidence for _, confidence in words if confidence is not None]
        logs = np.log(np.maximum(confidences, LEAST))
        result.add(
            utterance,
            Transcript(
                text=" ".join(word.word for word, _ in words),
                avg_logprob=float(logs.mean()) if len(logs) == len(words) else 0.0,
                no_speech_prob=0.0,
                language=language,
                words=[word for word, _ in words],
            ),
        )
    return result


def _read_whisperx(path: Path, utterances: Collection[str], language: str) -> TranscriptFile:
    """Read a file of each utterance; one that is damaged is unusable and the others are read."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.match("*.json"))
        if not files:
            raise UserError(f"{path}: this folder has no .json files; {FORMATS}.")
    result = TranscriptFile()
    for file in files:
        if file.stem not in utterances:
            result.unknown.append(file.stem)
            continue
        try:
            result.add(file.stem, _of_segments(file, language))
        except (UserError, OSError) as error:
            result.unusable[file.stem] = str(error).rstrip(".")
    return result


def _of_segments(file: Path, language: str) -> Transcript:
    try:
        content = _WhisperX.model_validate(read_object(file, WHISPERX))
    except ValidationError as error:
        raise UserError(f"{file}: {describe(error)}; {WHISPERX}.") from error
    texts = [segment.text.strip() for segment in content.segments]
    logs = [segment.avg_logprob for segment in content.segments]
    scores = [log for log in logs if log is not None]
    words = [word for segment in content.segments for word in segment.words or ()]
    return Transcript(
        text=" ".join(text for text in texts if text),
        avg_logprob=sum(scores) / len(scores) if scores and len(scores) == len(logs) else 0.0,
        no_speech_prob=0.0,
        language=content.language or language,
        words=[
            Word(word.word.strip(), word.start, word.end)
            for word in words
            if not math.isnan(word.start + word.end)
        ],
    )
