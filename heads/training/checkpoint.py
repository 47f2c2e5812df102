"""Where a training has come to: all that the next epoch needs, in one file, once a minute.

Nothing random is kept: every epoch is seeded by its number, so a training that goes on is bit for
bit the one that was never interrupted. The file is read with `weights_only`, and one that another
training left (another fingerprint) is ignored.
"""

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
        except (OSError, RuntimeError, ValueError):  # a file that is not ours, or cut short
            return None
        state: dict[str, Any] = kept["state"]
        return state if kept["fingerprint"] == self.fingerprint else None

    def write(self, state: dict[str, Any], now: bool = False) -> None:
        """Keep a state when the last one is a minute old, or `now`."""
        if self.path is None or not (now or time.monotonic() - self._written >= SECONDS):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        torch.save({"fingerprint": self.fingerprint, "state": state}, part)
        part.replace(self.path)
        self._written = time.monotonic()
