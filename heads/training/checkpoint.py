"""Where a training has come to: all that the next epoch needs, in one file, once a minute.

Nothing random is kept: every epoch is seeded by its number, so a training that goes on is bit for
bit the one that was never interrupted. The file is read with `weights_only`, and one that another
training left (another fingerprint) is ignored.
"""

import io
import os
import pickle
import time
from pathlib import Path
from typing import Any

import torch

SECONDS = 60.0  # at most so much is lost


class Checkpoint:
    """Keep the state of one training in a file; without a path, nowhere."""

    def __init__(self, path: Path | None, fingerprint: str = "") -> None:
        self.path, self.fingerprint = path, fingerprint
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the state there is of this training."""
        if self.path is None or not self.path.exists():
            return None
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
            return None  # a file that is not ours, or cut short
        ours = isinstance(kept, dict) and kept.get("fingerprint") == self.fingerprint
        return kept["state"] if ours else None

    def write(self, state: dict[str, Any], now: bool = False) -> None:
        """Keep a state when the last one is a minute old, or `now`."""
        if self.path is None or not (now or time.monotonic() - self._written >= SECONDS):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # into memory first: of a full disk PyTorch's own writer says only that writing failed
        held = io.BytesIO()
        torch.save({"fingerprint": self.fingerprint, "state": state}, held)
        # a worker that was told to die may be writing still when the next one begins
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        part.write_bytes(held.getbuffer())
        part.replace(self.path)
        self._written = time.monotonic()
