"""Training across the corpora of a small joined manifest."""

import polars as pl

from ser.pipeline.file import Pipeline
from ser.score.cross import Cross
from ser.stages.cross import plan, score
from ser.stages.heads import Callbacks
from ser.stages.subruns import run_subruns
from tests.ser.stages.factories import pipeline_of

CORPUS = ("x", "y")


def test_two_corpora_are_tested_by_each_other_and_resumed(tmp_path):
    pipeline_of(tmp_path)
    frame = pl.read_csv(tmp_path / "m.csv")
    corpora = pl.Series("corpus", [CORPUS[i // 9] for i in range(18)])
    speakers = pl.Series("speaker", [f"{CORPUS[i // 9]}{i // 3 % 3}" for i in range(18)])
    split = pl.Series("split", [("train", "dev", "test")[i // 3 % 3] for i in range(18)])
    frame.with_columns(corpora, speakers, split).write_csv(tmp_path / "m.csv")
    pipeline = Pipeline.load(tmp_path / "pipeline.yaml")
    heads = []
    planned = plan(pipeline)
    follow = Callbacks(after_head=heads.append)
    assert run_subruns(planned.runs, "cpu", 1, print, follow) == (True, {})
    result = score(planned)
    assert [(h.name, h.done) for h in heads] == [
        ("train-x/one", "trained"),
        ("train-y/one", "trained"),
    ]
    cells = [(cell.train, cell.test, cell.utterances, cell.speakers) for cell in result.cells]
    assert cells == [("x", "x", 3, 1), ("x", "y", 9, 3), ("y", "x", 9, 3), ("y", "y", 3, 1)]
    assert set(result.cells[0].scores) == {"one", "stack"}
    assert Cross.read(tmp_path / "run" / "cross" / "corpus" / "cross.json") == result
    assert len(list((tmp_path / "cache" / "prosody").iterdir())) == 1

    heads.clear()
    run_subruns(plan(pipeline).runs, "cpu", 1, print, follow)
    assert [head.done for head in heads] == ["current", "current"]
    assert score(planned) == result
