"""A few rounds of `python -m tests.faults`, with a seed: a process of its own, as it forks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # tests/cache/test_crash.py has rounds of the cache's commands
def test_a_killed_stack_fit_leaves_the_old_stack_or_the_new_one(tmp_path):
    out = tmp_path / "faults.json"
    words = ["--only", "stack fit", "--rounds", "3", "--folder", tmp_path, "--json", out]
    command = [sys.executable, "-m", "tests.faults", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row["value"] for row in json.loads(out.read_text())["rows"]}
    assert rows["stack fit: wrong"] == 0
    assert rows["stack fit: kills"] > 0
