"""The threads of the libraries on a machine with few cores."""

import os

from ser.corpus.machine import cores

FEW = 4  # cores
_limited = False


def limit_threads() -> None:
    """Give each call of a library one thread where there are few cores, unless it is set already.

    torch, CTranslate2 and LightGBM read OMP_NUM_THREADS when they load. On two cores a second
    thread made a training step 16 times slower and an encoder 3 times.
    """
    global _limited  # noqa: PLW0603
    if cores() <= FEW and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        _limited = True


def idle_cores() -> int:
    """Return how many cores one call leaves idle because of `limit_threads`."""
    return cores() - 1 if _limited else 0
