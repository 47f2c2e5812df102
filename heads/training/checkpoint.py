"""Where a training has come to: all that the next epoch needs, in one file, once a minute.

Nothing random is kept: every epoch is seeded by its number, so a training that goes on is bit for
bit the one that was never interrupted. The file is read with `weights_only`; one that is damaged
(its last four bytes are the crc32c of the others) or that another training left (another
fingerprint) is ignored.
"""

import io
import pickle
import time
from pathlib import Path
from typing import Any

import google_crc32c
import torch

from ser.corpus.atomic import staged

SECONDS = 60.0  # at most so much is lost


class Checkpoint:
    """Keep the state of one training in a file; without a path, nowhere."""

    def __init__(self, path: Path | None, fingerprint: str = "") -> None:
        self.path, self.fingerprint = path, fingerprint
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the state of this training, None where there is none."""
        if self.path is None or not self.path.exists():
            return None
        if not self.path.is_file():
            return None
        data = self.path.read_bytes()
        if _checksum(data[:-4]) != data[-4:]:
            return None
        try:
            saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
            return None  # a file that is not ours
        ours = isinstance(saved, dict) and saved.get("fingerprint") == self.fingerprint
        return saved["state"] if ours else None

    def write(self, state: dict[str, Any], now: bool = False) -> None:
        """Write a state if the last one is a minute old, or `now`."""
        if self.path is None or not (now or time.monotonic() - self._written >= SECONDS):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # into memory first: PyTorch's own writer hides that a disk is full
        buffer = io.BytesIO()
        torch.save({"fingerprint": self.fingerprint, "state": state}, buffer)
        with staged(self.path) as part, part.open("wb") as file:
            file.write(buffer.getbuffer())
            file.write(_checksum(buffer.getbuffer()))
        self._written = time.monotonic()


def _checksum(data: bytes | memoryview) -> bytes:
    return int(google_crc32c.value(bytes(data))).to_bytes(4, "little")
