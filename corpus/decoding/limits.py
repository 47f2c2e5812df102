"""The limits of decoding, and the blocks that it yields."""

import numpy as np

from ser.corpus.errors import AudioError

RATES = (1_000, 768_000)  # Hz; a second is read at a time, so a rate of gigahertz is a bomb
CHANNELS = 32
AT_ONCE = 1 << 18  # samples of all channels that are decoded at a time

Block = tuple[int, np.ndarray]  # rate in Hz, float32 `(samples, channels)`


def require_possible(rate: int, channels: int) -> None:
    """Raise `AudioError` for a rate or channels that no recording has."""
    if not (RATES[0] <= rate <= RATES[1] and 0 < channels <= CHANNELS):
        raise AudioError("not audio", f"{rate} Hz and {channels} channels")
