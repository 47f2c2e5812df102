"""The examples run as a reader would run them, and print what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytest.importorskip("espeakng_loader")
EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_new_head_is_trained_and_passes_every_check(tmp_path):
    notebook = nbformat.read(EXAMPLES / "new_head.ipynb", 4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)  # kept clear of them
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1200, startup_timeout=300, resources=resources).execute()
    printed = ["".join(o.text for o in cell.outputs if o.name == "stdout") for cell in cells]
    assert printed[0] == "320 clips extracted, 0 failed\n"
    scores = re.fullmatch(
        r"peak: dev macro-F1 (0\.\d{3}) in epoch (?:1?\d|20)\n"
        r"mean_mlp: dev macro-F1 (0\.\d{3}) in epoch (?:1?\d|20)\n",
        printed[2],
    )
    assert all(float(score) > 0.3 for score in scores.groups())  # 1/8 is chance
    assert printed[3] == "peak: every test passed\n"


def test_an_extractor_passes_every_check_and_fills_a_cache(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "add_extractor.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTEST_ADDOPTS": "-p no:cacheprovider"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^10 passed, 3 skipped", done.stdout, re.M)
    *_, first, second, verified, read = done.stdout.splitlines()
    assert first == "40 extracted, 0 cached, 0 failed"
    assert second == "0 extracted, 40 cached, 0 failed"
    assert verified == "0 damaged of 40"
    assert re.fullmatch(r"speaker04-angry-01: \d+ frames of 80 bands, float16", read)
