"""The state of a training: all that its next step needs, in one file, each minute and on SIGTERM.

Nothing random is kept: every step is seeded by its number, so a resumed training is bit for
bit the one that was never interrupted. The file is read with `weights_only`; one that is damaged
(its last four bytes are the crc32c of the others) or that another training left (another
fingerprint) is ignored.
"""

import io
import logging
import time
from pathlib import Path
from typing import Any

import google_crc32c
import torch

from ser.corpus import termination
from ser.corpus.atomic import staged

VERSION = 2  # of the state
SECONDS = 60.0  # at most so much is lost
log = logging.getLogger("ser.heads")

State = dict[str, Any]  # of PyTorch's modules and optimizers


class Checkpoint:
    """The state of one training in a file; without a path, nowhere.

    Of several processes of a training all read it and one `writes`.
    """

    def __init__(self, path: Path | None, fingerprint: str = "", *, writes: bool = True) -> None:
        self.path, self.fingerprint = path, fingerprint
        self._writes = writes and path is not None
        self._written = time.monotonic()

    def read(self) -> State | None:
        """Return the state of this training, None where there is none."""
        if self.path is None or not self.path.is_file():
            return None
        data = self.path.read_bytes()
        if _checksum(data[:-4]) != data[-4:]:
            return None
        try:
            saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception:  # which one depends on the file, which is not ours
            return None
        if not isinstance(saved, dict) or saved.get("fingerprint") != self.fingerprint:
            return None
        if saved.get("version") != VERSION:
            log_restart(self.path)
            return None
        state: State = saved["state"]
        return state

    def is_due(self) -> bool:
        """Return whether the last state was written a minute ago, or SIGTERM has come."""
        old = time.monotonic() - self._written >= SECONDS
        return self._writes and (old or termination.is_requested())

    def write(self, state: State) -> None:
        """Replace the file by one with this state."""
        if self.path is None or not self._writes:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # into memory first: PyTorch's own writer hides that a disk is full
        buffer = io.BytesIO()
        saved = {"version": VERSION, "fingerprint": self.fingerprint, "state": state}
        torch.save(saved, buffer)
        with staged(self.path) as part, part.open("wb") as file:
            file.write(buffer.getbuffer())
            file.write(_checksum(buffer.getbuffer()))
        self._written = time.monotonic()


def log_restart(path: Path) -> None:
    """Warn that a training starts again, since another version of ser wrote its checkpoint."""
    log.warning(
        "%s: the unfinished training is of another version of ser, so it starts again.", path
    )


def _checksum(data: bytes | memoryview) -> bytes:
    return int(google_crc32c.value(bytes(data))).to_bytes(4, "little")
