"""Logits of noisy heads, and trials with damaged files of models."""

import re
import subprocess
from pathlib import Path

import numpy as np

from tests.ser import warm


def trials(kind: str, path: Path, count: int, classes: int = 3, dim: int = 6) -> tuple[int, int]:
    """Read `count` damaged copies in another process; return how many were read and refused."""
    command = [
        warm.folder() / "python",
        "-m",
        "tests.stack.damage",
        kind,
        path,
        count,
        1,
        classes,
        dim,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    search_result = re.search(r"(\d+) read, (\d+) refused", done.stdout)
    assert search_result, (done.returncode, done.stderr[-2000:])
    return int(search_result[1]), int(search_result[2])


def noisy(noises, rows=400, seed=0):
    """Return heads of some noises side by side, and the labels."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, rows, p=[0.6, 0.3, 0.1])
    heads = [4 * np.eye(3)[y] + noise * rng.normal(size=(rows, 3)) for noise in noises]
    return np.concatenate(heads, axis=1), y
