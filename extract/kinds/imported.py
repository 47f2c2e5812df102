"""What another program made: features of `ser cache import`, and transcripts of a file.

Files of transcripts are read by `transcript_files`. Each transcript is cached by its own content:
when the file changes, only the utterances whose transcript differs are imported again, and only
their text features are extracted again. Where the file is does not change what a cache is called,
so a run can be read without it.
"""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ser.cache.transcripts import Transcript
from ser.corpus.errors import Note, UserError, plural, shown
from ser.corpus.manifest import Manifest
from ser.extract.extractor import Extractor, FeatureOptions, extractor
from ser.extract.sources import TextSources
from ser.extract.transcript_files import UNDETERMINED, TranscriptFile, read_transcripts


@extractor("imported")
class Imported(Extractor):
    """Features made elsewhere: `ser cache import` adds them, and nothing extracts them."""

    def load(self, device: str) -> None:
        """Raise `ValueError`: there is no model."""
        raise ValueError("features of kind 'imported' are added by `ser cache import`")

    def extract(self, batch: Sequence[object]) -> list[np.ndarray]:
        """Raise `ValueError`: there is no model."""
        self.load("cpu")
        return []


class ImportedTranscriptsOptions(FeatureOptions):
    """Options of `kind: imported_transcripts`.

    `file` is a table, a .ctm file or a folder of WhisperX's .json files; `language` is that of
    transcripts whose file names none; `word_times` keeps the start and end of each word.
    """

    unnamed: ClassVar[frozenset[str]] = frozenset({"file", "augment"})

    file: str
    language: str = Field(UNDETERMINED, pattern="^[a-z]{2,3}$")
    word_times: bool = False


@extractor("imported_transcripts")
class ImportedTranscripts(Extractor):
    """Copy the transcripts of a file."""

    Options: ClassVar[type[FeatureOptions]] = ImportedTranscriptsOptions
    reads: ClassVar[Literal["audio", "text", "file"]] = "file"
    gives: ClassVar[Literal["frames", "transcripts"]] = "transcripts"
    whole: ClassVar[bool] = False

    def load(self, device: str) -> None:
        """Do nothing: there is no model."""

    def extract(self, batch: Sequence[Transcript]) -> Sequence[Transcript]:
        """Return the transcripts as they are."""
        return batch


class FileSources(TextSources):
    """The transcripts of a file by utterance, each hashed with its numbers and its words.

    Where the file does not exist, no utterance is usable, and those that are cached stay so. Raises
    `UserError` for a file that cannot be read.
    """

    def __init__(self, manifest: Manifest, options: Any) -> None:
        self.utterances = manifest.utterances()
        self._path = path = Path(options.file)
        read, reason = TranscriptFile(), f"{path}: it does not exist"
        self._exists = path.exists()
        if self._exists:
            read = read_transcripts(path, set(self.utterances), options.language)
            reason = f"{path}: it has no transcript of this utterance"
            if read.unknown:
                first = shown(read.unknown[0])
                reason += f", but one of '{first}', which is not in the manifest"
        words = read.transcripts
        self._inputs = (
            words if options.word_times else {u: replace(t, words=()) for u, t in words.items()}
        )
        absent = [u for u in self.utterances if u not in words]
        self.unusable = {u: read.unusable.get(u, reason) for u in absent}
        self.damaged = read.unusable

    def require_file(self, feature: str, cached: Collection[str], complete: bool) -> None:
        """Raise `UserError` where the file does not exist, unless all is cached; warn otherwise.

        `complete`: every utterance is cached, or was listed as failed when the file was read. A
        `Note` counts the cached transcripts that are no longer in the file.
        """
        if not self._exists and not complete:
            pending = plural(len(set(self.utterances).difference(cached)), "utterance")
            raise UserError(
                f"features.{feature}: {self._path} does not exist, and {pending} cannot be read "
                "from the cache; correct `file`."
            )
        stale = plural(len(set(cached).difference(self._inputs)), "cached transcript")
        note = f"{self._path} does not exist; {stale} can be used without it"
        if self._exists:
            if self._inputs.keys() >= set(cached):
                return
            verb = "is" if stale.startswith("1 ") else "are"
            note = f"{stale} {verb} no longer in {self._path}; what is cached is still used"
        warnings.warn(f"features.{feature}: {note}.", Note, stacklevel=2)

    def sizes(self) -> dict[str, int]:
        """Return the characters of each transcript."""
        return {u: len(transcript.text) for u, transcript in self._inputs.items()}
