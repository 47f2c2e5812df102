import re
import shutil

import kaleido
import pytest
from kaleido.errors import ChromeNotFoundError

from ser.score.report import run as report
from ser.score.report.run import NO_BROWSER, write_report
from ser.score.report.sections import sections
from ser.score.scores import read_metrics

browser = pytest.mark.skipif(
    not any(map(shutil.which, ("chromium", "google-chrome"))), reason="there is no Chrome"
)


def test_every_table_is_in_all_three_formats(full):
    assert write_report(full, ()) is None
    folder = full.run / "report"
    page, markdown, latex = (
        (folder / name).read_text() for name in ("report.html", "report.md", "tables.tex")
    )
    shown = sections(full)
    tables = [table for section in shown for table in section.tables]
    assert len({table.name for table in tables}) == len(tables) == 18
    for table in tables:
        assert table.markdown() in markdown
        assert table.latex() in latex
        assert f'<table id="table-{table.name}"' in page
    assert re.findall(r"^## (.*)$", markdown, re.M) == [section.title for section in shown]
    assert "figures/" not in markdown
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_without_a_browser_the_rest_is_written_and_the_reason_returned(full, monkeypatch):
    def none(*args, **options):
        raise ChromeNotFoundError

    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", none)
    figures = full.run / "report" / "figures"
    figures.mkdir(parents=True)
    (figures / "old.svg").write_text("of an earlier report")
    assert (
        write_report(full)
        == NO_BROWSER
        == (
            "no Chrome or Chromium could be started, so the figure files were not written; install "
            "one, or give `--figures none`"
        )
    )
    assert sorted(path.name for path in (full.run / "report").iterdir()) == [
        "metrics.json",
        "predictions.csv",
        "report.html",
        "report.md",
        "tables.tex",
    ]
    assert "figures/" not in (full.run / "report" / "report.md").read_text()


@pytest.mark.slow
@browser
def test_figures_are_files_too_and_markdown_links_to_them(full, monkeypatch):
    few = [s for s in sections(full) if s.name == "groups"]
    monkeypatch.setattr(report, "sections", lambda contents: few)  # a browser costs a second a file
    assert write_report(full, ("svg", "png")) is None
    folder = full.run / "report" / "figures"
    names = ["groups.png", "groups.svg"]
    assert sorted(path.name for path in folder.iterdir()) == ["checksums.json", *names]
    for name in names:
        start = (folder / name).read_bytes()[:8]
        assert start.startswith(b"<svg" if name.endswith("svg") else b"\x89PNG")
    markdown = (full.run / "report" / "report.md").read_text()
    assert re.findall(r"\]\((.*?)\)", markdown) == ["figures/groups.svg"]
    assert not list((full.run / "report").glob(".*"))
    drawn = []
    monkeypatch.setattr(report, "_draw", lambda folder, figures, formats: drawn.append(folder))
    write_report(full, ("svg", "png"))
    assert drawn == []  # what is up to date is not drawn again
    (folder / "groups.svg").write_bytes(b"<svg")
    write_report(full, ("svg", "png"))
    assert len(drawn) == 1


def test_the_same_run_gives_the_same_files(full):
    write_report(full, ())
    names = ("report.html", "report.md", "tables.tex")
    first = [(full.run / "report" / name).read_text() for name in names]
    write_report(full, ())
    assert [(full.run / "report" / name).read_text() for name in names] == first
    assert read_metrics(full.run / "report" / "metrics.json") == full.metrics
