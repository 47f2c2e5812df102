"""Three published systems, whole, on made-up data; `make presets` runs them all."""

import json

import polars as pl
import pytest

from corpus.errors import UserError
from ser.presets.catalogue import load
from ser.presets.smoke import padded_share, smoke


@pytest.mark.parametrize("name", ["srpol", "sail-categorical", "voinosis-mater"])
def test_a_published_system_runs_whole(tmp_path, name):
    pipeline, said = load(name), []
    metrics, failed = smoke(pipeline, tmp_path, said.append)
    assert failed == {}
    for split in ("dev", "test"):
        assert set(metrics[split]) == {*pipeline.systems, "stack"}
    assert json.loads((tmp_path / "run" / "report" / "metrics.json").read_text()) == metrics
    assert said[0] == f"corpus   {tmp_path / 'audio'}: 104 made-up utterances"
    assert [line.split()[0] for line in said[-3:]] == ["stack", "score", "smoke"]
    trained = [line.split()[1] for line in said if line.startswith(("heads", "finetune"))]
    assert sorted(trained) == sorted(f"{name}:" for name in pipeline.systems)
    again = smoke_again(tmp_path)
    assert all("current" in line for line in again if line.startswith(("extract", "stack")))


def smoke_again(folder):
    """Run what a smoke test left behind; its files are those of any run."""
    from ser.pipeline import Pipeline
    from ser.run import run_all

    said = []
    assert run_all(Pipeline.load(folder / "pipeline.yaml"), "cpu", said.append)[1] == {}
    return said


def test_padding_is_the_mean_over_all_epochs(tmp_path):
    pipeline = load("nu")
    shares = {"whisper-roberta": [0.1, 0.2], "hubert-roberta": [0.6]}
    object.__setattr__(pipeline, "run", tmp_path)
    assert padded_share(pipeline) == 0
    for name, column in shares.items():
        (tmp_path / "heads" / name).mkdir(parents=True)
        path = tmp_path / "heads" / name / "history.csv"
        pl.DataFrame({"epoch": range(len(column)), "padded_share": column}).write_csv(path)
    assert padded_share(pipeline) == pytest.approx(0.3)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(UserError) as error:
        smoke(load("nu"), tmp_path, print)
    assert str(error.value) == f"{tmp_path}: it is not empty; give a folder that is new."
