"""What an extractor reads: clips or texts by utterance, with their sizes and hashes.

`stat` is cheap and changes when a file is touched; `source` hashes the content. Both include the
span, so another `start` or `end` is another clip.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ser.cache import files
from ser.cache.checksums import crc32c_of
from ser.corpus import audio
from ser.corpus.augment import View
from ser.corpus.decoding.file import not_read
from ser.corpus.errors import AudioError
from ser.corpus.manifest import Manifest
from ser.corpus.other_speakers import OtherSpeakers
from ser.corpus.progress import steps
from ser.corpus.signal import signal_problems
from ser.extract.extractor import SAMPLE_RATE

THREADS = 8  # headers and files are waited for, not computed


class Sources(ABC):
    """The input of every utterance; `unusable` has the reason for those without one.

    `doubts` are reasons why the signal of a loaded utterance is hardly speech. `damaged` are the
    unusable ones that are listed as failed though an earlier result is cached.
    """

    utterances: list[str]
    unusable: dict[str, str]
    doubts: Mapping[str, str] = MappingProxyType({})
    damaged: Mapping[str, str] = MappingProxyType({})

    def require_file(self, feature: str, cached: Collection[str], complete: bool) -> None:  # noqa: B027
        """Do nothing: only transcripts have one file for all utterances."""

    @abstractmethod
    def stat_hashes(self) -> dict[str, int]:
        """Return the cheap hash of every usable utterance."""

    @abstractmethod
    def content_hash(self, utterance: str) -> int:
        """Return the content hash of one utterance."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return samples at 16 kHz, or characters, of every usable utterance."""

    @abstractmethod
    def load(self, utterance: str) -> Any:
        """Return the waveform or the text; may raise `AudioError`."""


class AudioSources(Sources):
    """Read clips from the audio folder."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self.utterances = manifest.utterances()
        rows = manifest.frame.select("utterance", "path", "start", "end").iter_rows()
        self._clips = {u: (folder / path, start, end) for u, path, start, end in rows}
        self._checksums: dict[Path, int] = {}  # a podcast is read once, not once a segment
        self._durations: dict[Path, float | AudioError] = {}
        self.unusable = {}
        self.doubts: dict[str, str] = {}

    def stat_hashes(self) -> dict[str, int]:
        """Hash size, time of change and span of each file."""
        stat_hashes = {}
        for utterance, (path, start, end) in self._clips.items():
            try:
                stat = path.stat()
            except (OSError, ValueError) as error:  # ValueError: no file can have that name
                self.unusable[utterance] = f"{path}: {not_read(error)}"
                continue
            stat_hashes[utterance] = hash64(stat.st_size, stat.st_mtime_ns, start, end)
        return stat_hashes

    def content_hash(self, utterance: str) -> int:
        """Hash the bytes of the file and the span."""
        path, start, end = self._clips[utterance]
        if path not in self._checksums:
            self._checksums[path] = crc32c_of(path)
        return hash64(self._checksums[path], start, end)

    def sizes(self) -> dict[str, int]:
        """Return the samples of each clip; compressed files are decoded for that, once each."""
        sizes: dict[str, int] = {}
        usable = [u for u in self.utterances if u not in self.unusable]
        with ThreadPoolExecutor(THREADS) as pool:
            results = pool.map(self._size, usable)
            bar = steps(results, "headers", len(usable), leave=False, delay=2)
            for utterance, size in zip(usable, bar, strict=True):
                if isinstance(size, str):
                    self.unusable[utterance] = size
                else:
                    sizes[utterance] = size
        return sizes

    def _size(self, utterance: str) -> int | str:
        path, start, end = self._clips[utterance]
        seconds = self._duration(path)
        if isinstance(seconds, AudioError):
            if end is None:
                return f"{path}: {seconds}"
            seconds = end  # the span may be good though the file is cut behind it
        stop = seconds if end is None else min(end, seconds)
        return max(0, round((stop - max(0.0, start or 0.0)) * SAMPLE_RATE))

    def _duration(self, path: Path) -> float | AudioError:
        if path not in self._durations:
            try:
                self._durations[path] = audio.duration(path)
            except AudioError as error:
                self._durations[path] = error
        return self._durations[path]

    def load(self, utterance: str) -> np.ndarray:
        """Decode, mix down and resample one clip."""
        path, start, end = self._clips[utterance]
        channels = audio.ChannelPower()
        try:
            wave = audio.load(path, start, end, channels)
        except AudioError as error:
            raise ValueError(f"{path}: {error}") from error
        if problems := signal_problems(wave, channels.powers):
            sentences = " ".join(problem.sentence for problem in problems)
            self.doubts[utterance] = f"{path}: {sentences}"
        return wave


class ViewSources(AudioSources):
    """Read the clips of one augmented view: what `AudioSources` reads, changed."""

    def __init__(self, manifest: Manifest, folder: Path, view: View) -> None:
        super().__init__(manifest, folder)
        self._view = view
        self._others = OtherSpeakers(
            dict(manifest.frame.select("utterance", "speaker").iter_rows())
        )

    def stat_hashes(self) -> dict[str, int]:
        """Hash what `AudioSources` does, and whose audio is mixed in, if any."""
        stat_hashes = super().stat_hashes()
        partners = {u: self._view.partner(u, self._others) for u in stat_hashes}
        return {
            u: stat if partners[u] is None else hash64(stat, stat_hashes.get(str(partners[u])))
            for u, stat in stat_hashes.items()
        }

    def content_hash(self, utterance: str) -> int:
        """Hash the bytes and the span, also of what is mixed in."""
        clip, partner = super().content_hash(utterance), self._view.partner(utterance, self._others)
        if partner is None or partner in self.unusable:
            return clip
        return hash64(clip, super().content_hash(partner))

    def sizes(self) -> dict[str, int]:
        """Return the samples of each clip after the change."""
        return {u: self._view.samples(u, size) for u, size in super().sizes().items()}

    def load(self, utterance: str) -> np.ndarray:
        """Decode one clip and change it."""
        return self._view.apply(utterance, super().load(utterance), super().load, self._others)


class TextSources(Sources):
    """Read transcripts by utterance."""

    _inputs: Mapping[str, Any]

    def __init__(
        self, utterances: Sequence[str], texts: Sequence[str | None], feature: str
    ) -> None:
        self.utterances = list(utterances)
        self._inputs = {u: t for u, t in zip(utterances, texts, strict=True) if t is not None}
        self.unusable = {u: f"no words in '{feature}'" for u in utterances if u not in self._inputs}

    def stat_hashes(self) -> dict[str, int]:
        """Hash each text."""
        return {u: hash64(text) for u, text in self._inputs.items()}

    def content_hash(self, utterance: str) -> int:
        """Hash the text."""
        return hash64(self._inputs[utterance])

    def sizes(self) -> dict[str, int]:
        """Return the characters of each text."""
        return {u: len(text) for u, text in self._inputs.items()}

    def load(self, utterance: str) -> Any:
        """Return the text."""
        return self._inputs[utterance]


def hash64(*parts: object) -> int:
    """Hash plain values to 64 bits."""
    return files.hash64(repr(parts).encode())
