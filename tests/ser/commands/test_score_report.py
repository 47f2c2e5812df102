"""`ser report`: a run of logits becomes a page, without torch."""

import shutil
import subprocess
import sys

import kaleido
import polars as pl
import pytest
from kaleido.errors import ChromeNotFoundError

from ser.commands.main import cli
from ser.corpus.errors import StoppedError, UserError
from tests.ser.commands.factories import write_run


def test_a_run_is_scored_and_reported_without_torch(tmp_path):
    write_run(tmp_path)
    code = (
        "import sys\nfrom ser.commands.main import cli\n"
        "assert cli(['report', '--figures', 'none'], standalone_mode=False) == 0\n"
        "assert not {'torch', 'transformers', 'ctranslate2', 'kaleido'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/run/report/report.html\n"
    folder = tmp_path / "run" / "report"
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.json",
        "predictions.csv",
        "report.html",
        "report.md",
        "tables.tex",
    ]
    assert "../../audio/u" in (folder / "report.html").read_text()
    assert "Macro-F1 of the k heads that are best on dev." in (folder / "report.md").read_text()


def report(folder, *words):
    """Run the command in this process; return its exit code."""
    words = ("report", "--pipeline", str(folder / "pipeline.yaml"), *words)
    return cli(list(words), standalone_mode=False)


def test_figures_that_cannot_be_drawn_are_exit_1_if_requested_and_0_by_default(
    tmp_path, monkeypatch, capsys
):
    def none(*args, **options):
        raise ChromeNotFoundError

    write_run(tmp_path)
    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", none)
    message = (
        "ser: no Chrome or Chromium could be started, so the figure files were not written; "
        "install one, or give `--figures none`.\n"
    )
    assert report(tmp_path) == 0
    assert capsys.readouterr().err == message
    assert (tmp_path / "run" / "report" / "report.html").is_file()
    assert report(tmp_path, "--figures", "svg") == 1
    assert capsys.readouterr().err == message


def test_what_the_user_can_mend_is_reported_in_one_sentence(tmp_path):
    write_run(tmp_path)
    with pytest.raises(UserError) as error:
        report(tmp_path, "--figures", "jpg")
    assert str(error.value) == "--figures jpg: give it as svg, png, svg,png or none."
    shutil.rmtree(tmp_path / "run" / "heads" / "two")
    with pytest.raises(UserError) as error:
        report(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/run/heads/two/logits.h5: there are no logits; train it with `ser heads "
        "train-all`."
    )
    text = (tmp_path / "pipeline.yaml").read_text()
    (tmp_path / "pipeline.yaml").write_text(text[: text.index("heads:")] + "stack: {}\n")
    with pytest.raises(UserError) as error:
        report(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/pipeline.yaml: there are no heads to stack or score; add some under `heads:`."
    )


def test_a_failed_head_is_reported_and_nothing_written(tmp_path):
    write_run(tmp_path)
    failed = pl.DataFrame({"head": ["two"], "error": ["no memory"], "when": ["now"]})
    failed.write_csv(tmp_path / "run" / "heads" / "failed.csv")
    with pytest.raises(StoppedError, match=r"/run: head 'two' could not be trained \(no memory\)"):
        report(tmp_path)
    assert not (tmp_path / "run" / "report").exists()
