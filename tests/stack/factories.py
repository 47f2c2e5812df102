"""Trials with damaged files of models."""

import re
import subprocess
from pathlib import Path

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
