"""On a read-only disk, commands report what is up to date, and write nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ser.factories import PIPELINE, make_corpus, ser

READ = """
import os, sys
from pathlib import Path
from ser.commands.main import main
os.chdir(sys.argv[1])
for words in (
    "extract --all", "heads train-all", "heads train one --jobs 1", "stack fit", "score",
    "report --figures none", "run", "predict audio/u3.wav --run run", "heads list",
    "score --set score.bootstrap=7", "heads train one --force --jobs 1", "stack fit --force",
    "report --figures none --set score.bootstrap=7",
):
    sys.argv = ["ser", *words.split()]
    print("$", words, flush=True)
    try:
        main()
    except SystemExit as end:
        sys.stderr.flush()
        print("exit", end.code, flush=True)
"""
ENDS = """
mount --bind "$1/run" "$1/run" && mount -o remount,ro,bind "$1/run" &&
mount --bind "$1/cache" "$1/cache" && mount -o remount,ro,bind "$1/cache" || exit 77
exec "$2" -c "$3" "$1"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_corpus(folder)
    # another process reads it too
    text = PIPELINE.replace("heads:\n", "heads:\n  baseline: false\n")
    (folder / "pipeline.yaml").write_text(text)
    run_and_report(folder)
    return folder


def run_and_report(folder):
    assert ser("run", cwd=folder).returncode == 0
    assert ser("report", "--figures", "none", cwd=folder).returncode == 0


@pytest.mark.slow
def test_all_that_is_up_to_date_on_a_read_only_disk(folder):
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    words = ["unshare", "-m", "bash", "-c", ENDS, "bash", str(folder), sys.executable, READ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path.cwd())
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("nothing can be mounted here")
    assert done.returncode == 0, done.stderr
    outputs = {part.split("\n")[0]: part for part in done.stdout.split("$ ")[1:]}
    codes = {words: int(part.rsplit("exit ", 1)[1]) for words, part in outputs.items()}
    refused = {
        "score --set score.bootstrap=7",
        "heads train one --force --jobs 1",
        "stack fit --force",
        "report --figures none --set score.bootstrap=7",
    }
    assert {words for words, code in codes.items() if code} == refused, done.stderr
    for line in ("heads    one: up to date", "heads    two: up to date", "mean_logits: up to date"):
        assert line in outputs["run"]
    assert "one: up to date" in outputs["heads train one --jobs 1"]
    assert outputs["stack fit"].endswith("/run/stack: mean_logits: up to date, skipped\nexit 0\n")
    assert "macro-F1" in outputs["score --set score.bootstrap=7"]  # shown, though not written
    errors = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    lines = [line for line in errors if line.startswith("ser: ")]
    shown = "Read-only file system; the scores are shown and not written."
    assert lines.count(f"ser: {folder}/run/report: {shown}") == 2
    for place in ("run/heads/one", "run"):
        assert (
            f"ser: {folder}/{place}: Read-only file system; make it writable, or use another "
            "folder, and run the same command again."
        ) in lines


def test_a_second_run_writes_nothing(folder):
    files = [path for path in (folder / "run").rglob("*") if path.is_file()]
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}
    run_and_report(folder)
    assert {path for path in (folder / "run").rglob("*") if path.is_file()} == set(files)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files} == before
