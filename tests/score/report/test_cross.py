"""The heat map and the table of scores across corpora."""

from dataclasses import replace

from ser.score.config import ScoreConfig
from ser.score.report.contents import gather
from ser.score.report.cross import cross_figure, cross_tables
from ser.score.report.sections import sections
from ser.score.run import score_run
from tests.score.cross_factories import matrix, write_run


def test_the_heat_map_has_a_cell_a_score_and_gaps_elsewhere():
    figure = cross_figure(matrix())
    low, high = figure.plot.data  # up to 0.5, and above
    assert (list(low.x), list(low.y)) == (["a", "b"], ["a", "b", "all others"])
    assert [list(row) for row in low.z] == [[None, None], [0.5, None], [None, None]]
    assert [list(row) for row in high.z] == [[0.9, None], [None, 0.75], [None, 0.625]]
    assert [list(row) for row in high.text] == [["0.90", ""], ["", "0.75"], ["", "0.62"]]


def test_the_table_has_intervals():
    (table,) = cross_tables(matrix())
    assert table.columns == ["Trained on", "a", "b"]
    assert [row[0] for row in table.rows()] == ["a", "b", "all others"]
    assert table.rows()[0] == ["a", "0.900 [.800, .950]", "-"]


def test_a_run_with_a_cross_folder_has_the_section(tmp_path):
    write_run(tmp_path)
    (tmp_path / "cross" / "corpus").mkdir(parents=True)
    matrix().write(tmp_path / "cross" / "corpus" / "cross.json")
    metrics = score_run(tmp_path, ScoreConfig(resamples=10), ["one"])
    contents = gather(tmp_path, metrics, ["one"])
    assert contents.cross == (matrix(),)
    shown = {section.name: section for section in sections(contents)}
    assert [figure.name for figure in shown["cross"].figures] == ["cross-corpus"]
    without = sections(replace(contents, cross=()))
    assert "cross" not in {section.name for section in without}
