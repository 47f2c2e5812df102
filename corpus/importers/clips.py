"""Audio that comes within a data set's files: written out as files of its own, within bounds."""

import re
from collections.abc import Iterator
from pathlib import Path

from ser.corpus.atomic import temporary_path
from ser.corpus.config import check_path
from ser.corpus.errors import UserError, plural, shown

LARGEST_CLIP = 256 * 2**20  # bytes
EXPANSION = 20  # the audio may be so many times as large as the files that it is in
FORMATS = (  # the first bytes of an audio file
    (re.compile(rb"(?:RIFF|RIFX|RF64)....WAVE", re.S), ".wav"),
    (re.compile(rb"fLaC"), ".flac"),
    (re.compile(rb"OggS"), ".ogg"),
    (re.compile(rb"ID3|\xff[\xe0-\xff]"), ".mp3"),
    (re.compile(rb"....ftyp", re.S), ".m4a"),
    (re.compile(rb"FORM....AIF[FC]", re.S), ".aiff"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), ".webm"),
)


class Clips:
    """Where the audio of a data set is: in its folder, or written to another one."""

    def __init__(self, folder: Path, out: Path | None) -> None:
        self.folder, self.out = folder, out
        self._written = self._outside = self._missing = self._allowed = 0

    @property
    def root(self) -> Path:
        """Return the folder that the paths start from."""
        return self.out if self.out is not None and self._written else self.folder

    def allow(self, size: int) -> None:
        """Raise the limit on what is written by that of a file of so many bytes."""
        self._allowed += EXPANSION * size

    def place(self, name: str, data: bytes | None, path: str | None) -> str | None:
        """Return the path of a clip below `root`, which is written first when it is bytes."""
        if data:
            return self._write(name, data)
        if not path:
            self._missing += 1
            return None
        try:
            check_path(path)
        except ValueError as error:
            raise UserError(
                f"{self.folder}: the audio of {name} is '{shown(path)}': {error}."
            ) from error
        whole = (self.folder / path).resolve()
        if not whole.is_relative_to(self.folder.resolve()):
            raise UserError(
                f"{self.folder}: the audio of {name} is '{shown(path)}', which is outside the "
                "folder; copy the audio into it, or save the data set with the audio in it."
            )
        self._outside += 1
        return whole.relative_to(self.folder.resolve()).as_posix()

    def require_audio(self) -> None:
        """Raise `UserError` when there is no audio, or some within the files and some beside."""
        if self._written and self._outside:
            raise UserError(
                f"{self.folder}: {plural(self._written, 'clip')} of the data set within "
                f"the files, {self._outside} beside them; save the data set with all audio in it."
            )
        if not self._written and not self._outside:
            raise UserError(
                f"{self.folder}: no row has audio; name its column with `--option audio=COLUMN`."
            )

    def notes(self) -> Iterator[str]:
        """Yield what was written and what was left out."""
        if self._written:
            yield f"{plural(self._written, 'clip')} written to {self.out}"
        if self._missing:
            yield f"left out, without audio: {plural(self._missing, 'row')}"

    def _write(self, name: str, data: bytes) -> str:
        if self.out is None:
            raise UserError(
                f"{self.folder}: the audio is within the files; name a folder to write it to with "
                "clips=FOLDER."
            )
        self._allowed -= len(data)
        if len(data) > LARGEST_CLIP or self._allowed < 0:
            raise UserError(
                f"{self.folder}: the audio of {name} makes the clips larger than such files can "
                f"have (a clip: {LARGEST_CLIP // 2**20} MiB; all: {EXPANSION} times the files); "
                "check where the data set comes from."
            )
        suffix = next((end for start, end in FORMATS if start.match(data)), None)
        if suffix is None:
            raise UserError(
                f"{self.folder}: the audio of {name} is not a wav, flac, ogg, mp3, m4a, aiff or "
                "webm file; name the column of the encoded audio with `--option audio=COLUMN`."
            )
        path = self.out / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = temporary_path(path)  # without a flush for each clip, which would take minutes
        part.write_bytes(data)
        part.replace(path)
        self._written += 1
        return path.name
