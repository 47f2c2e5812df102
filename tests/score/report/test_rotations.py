"""The section of rotations in a report."""

from ser.score.config import ScoreConfig
from ser.score.report.contents import gather
from ser.score.report.protocols import rotations_table
from ser.score.report.sections import sections
from ser.score.rotations import Rotations, RotationScores, pool_heads, rotation_scores
from ser.score.run import score_run
from tests.score.rotation_factories import write_runs


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
