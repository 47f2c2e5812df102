"""The sections of rotations and of scores across corpora."""

from dataclasses import replace

from ser.score.config import ScoreConfig
from ser.score.report.contents import gather
from ser.score.report.protocols import cross_figure, cross_tables, rotations_table
from ser.score.report.sections import sections
from ser.score.rotations import Rotations, RotationScores, pool_heads, rotation_scores
from ser.score.run import score_run
from tests.score.cross_factories import matrix, write_run
from tests.score.rotation_factories import write_runs


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


def test_a_pooled_run_has_a_section_of_its_rotations(tmp_path):
    runs, pooled = write_runs(tmp_path), tmp_path / "pooled"
    pool_heads(runs, pooled, ["one"])
    parts = [rotation_scores(run.name, run, ["one"]) for run in runs]
    Rotations(by="speaker", rotations=parts).write(pooled / "rotations.json")
    metrics = score_run(pooled, ScoreConfig(resamples=20), ["one"])
    shown = {section.name: section for section in sections(gather(pooled, metrics, ["one"]))}
    means, rows = shown["rotations"].tables
    assert means.rows() == [["one", "0.667 ± 0.471", "0.750 ± 0.354"]]
    assert rows.columns == ["Rotation", "Speakers", "n", "one"]
    assert rows.rows() == [["r1", "1", "2", "0.333"], ["r2", "1", "3", "1.000"]]
    assert "top-k" not in shown and "generalization" not in shown


def test_rotations_of_attributes():
    scores = {"one": {"ccc": 0.5}, "stack": {"ccc": 0.25}}
    parts = [RotationScores(name="r1", utterances=4, speakers=2, scores=scores)]
    table = rotations_table(Rotations(by="fold", rotations=parts))
    assert table.caption == "Mean CCC of every system in each rotation."
    assert table.rows() == [["r1", "2", "4", "0.500", "0.250"]]
