"""The clips that browsers have uploaded to the page and not used yet.

A browser first uploads a clip and then requests its prediction by the path that the upload
returned. That path holds 128 random bits and is looked up here, as a string, among those that were
returned; no path that a client sends is ever opened, resolved or deleted. A clip leaves the
register when it is used, so it can be used only once; unused clips are deleted after `AGE` seconds.
"""

import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

AGE = 60.0  # s


@dataclass(frozen=True)
class Upload:
    """A clip on disk, alone in its folder; `name` is the client's, only for display."""

    path: Path
    name: str
    created: float = field(default_factory=time.monotonic)

    def delete(self) -> None:
        """Delete the clip and its folder."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


class Uploads:
    """The register of uploads in a folder that nothing else writes to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[str, Upload] = {}

    def new_folder(self) -> Path:
        """Make a folder with a name that cannot be guessed."""
        folder = self._folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        return folder

    def add(self, path: Path, name: str) -> None:
        """Register a clip in a folder made by `new_folder`."""
        self._waiting[str(path)] = Upload(path, name)

    def find(self, path: str) -> Upload | None:
        """Return the unused upload of exactly this path."""
        return self._waiting.get(path)

    def take(self, path: str) -> Upload | None:
        """Return an upload as `find` does; the caller has to delete it."""
        return self._waiting.pop(path, None)

    def sweep(self, age: float = AGE) -> None:
        """Delete the uploads that have been unused for longer than `age` s."""
        now = time.monotonic()
        for path, upload in list(self._waiting.items()):
            if now - upload.created > age:
                self._waiting.pop(path).delete()
