"""The examples run as a reader would run them, and print what they promise."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from ser.heads.registry import HEADS
from tests.ser import warm
from tests.ser.factories import parsed_command

pytest.importorskip("espeakng_loader")
EXAMPLES = Path(__file__).parents[2] / "examples"
RUN_FILE = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


def in_a_kernel(notebook, folder):
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=1200, startup_timeout=300, resources=resources).execute()
    return [
        "".join(o.text for o in cell.get("outputs", ()) if o.name == "stdout")
        for cell in notebook.cells
    ]


def in_this_process(notebook, folder):
    """Execute the cells on half of the clips."""
    printed, names = [], {}
    for cell in notebook.cells:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            if cell.cell_type == "code":
                source = cell.source.replace("speakers=10, per_class=4", "speakers=5, per_class=4")
                exec(compile(source, "new_head.ipynb", "exec"), names)
        printed.append(out.getvalue())
    HEADS.remove("peak")
    return printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("execute", "clips"),
    [(in_this_process, 160), (in_a_kernel, 320)],
)
def test_a_new_head_is_trained_and_passes_every_check(tmp_path, execute, clips):
    notebook = nbformat.read(EXAMPLES / "new_head.ipynb", 4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)  # kept clear of them
    printed = [text for text in execute(notebook, tmp_path) if text]
    assert printed[0] == f"{clips} clips extracted, 0 failed\n"
    scores = re.fullmatch(
        r"peak: dev macro-F1 (0\.\d{3}) in epoch (?:1?\d|20)\n"
        r"mean_mlp: dev macro-F1 (0\.\d{3}) in epoch (?:1?\d|20)\n",
        printed[1],
    )
    assert all(float(score) > 0.3 for score in scores.groups())  # 1/8 is chance
    assert printed[2:] == ["peak: every test passed\n"]


def test_the_commands_of_the_whole_system_are_those_of_the_command_line():
    notebook = nbformat.read(EXAMPLES / "ser.ipynb", 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    lines = [line for cell in cells for line in cell.source.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("!")]
    assert {words[0] for words in commands} == {"!ser"}
    names = {parsed_command(words[1:]) for words in commands}
    assert {"predict", "init", "extract", "heads train-all", "stack fit", "report"} <= names


@pytest.mark.parametrize(
    ("source", "address"), [("/x/ser.whl", "file:///x/ser.whl"), ("git+https://a/b", None)]
)
def test_where_ser_is_not_installed_the_notebook_installs_it(monkeypatch, source, address):
    monkeypatch.setitem(sys.modules, "ser", None)
    cell = nbformat.read(EXAMPLES / "ser.ipynb", 4).cells[1].source
    names: dict[str, str] = {}
    code = re.sub(r"%(pip .*)", r"installed = f'\1'", cell)
    with pytest.raises(SystemExit, match=r"^set SOURCE to the folder, wheel or repository of ser"):
        exec(code, names)
    exec(code.replace('SOURCE = ""', f'SOURCE = "{source}"'), names)
    expected = f'pip install --quiet "ser-pipeline[demo,report] @ {address or source}"'
    assert names["installed"] == expected


@pytest.mark.slow
def test_the_whole_system_runs_from_top_to_bottom(tmp_path):
    notebook = nbformat.read(EXAMPLES / "ser.ipynb", 4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1200, startup_timeout=300, resources=resources).execute()
    assert (tmp_path / "runs/mine/report/report.html").is_file()
    assert (tmp_path / "mine.ser").is_file()


def test_an_extractor_passes_every_check_and_fills_a_cache(tmp_path):
    done = subprocess.run(
        [warm.folder() / "python", "-c", RUN_FILE, EXAMPLES / "add_extractor.py"],
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
