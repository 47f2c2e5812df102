"""Three published systems, whole, on made-up data; `make presets` runs them all."""

import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.score.scores import read_metrics
from ser.smoke.catalogue import load
from ser.smoke.smoke import padded_share, smoke


@pytest.mark.parametrize(
    "name",
    [
        "srpol",
        pytest.param("sail-categorical", marks=pytest.mark.slow),
        pytest.param("voinosis-mater", marks=pytest.mark.slow),
    ],
)
def test_a_published_system_runs_whole(tmp_path, name):
    pipeline, said = load(name), []
    metrics, failed = smoke(pipeline, tmp_path, said.append)
    assert failed == {}
    for split in ("dev", "test"):
        assert set(metrics[split]) == {*pipeline.systems, "stack"}
    assert read_metrics(tmp_path / "run" / "report" / "metrics.json") == metrics
    assert said[0] == f"corpus   {tmp_path / 'audio'}: 104 synthetic utterances"
    assert [line.split()[0] for line in said[-4:]] == ["stack", "score", "score", "smoke"]
    trained = [line.split()[1] for line in said if line.startswith(("heads", "finetune"))]
    assert sorted(trained) == sorted(f"{name}:" for name in pipeline.systems)
    again = smoke_again(tmp_path)
    assert all("up to date" in line for line in again if line.startswith("stack"))


def smoke_again(folder):
    """Run what a smoke test left behind; its files are those of any run."""
    from ser.pipeline.file import Pipeline
    from ser.stages.run import run_all

    collected = []
    assert run_all(Pipeline.load(folder / "pipeline.yaml"), "cpu", collected.append)[1] == {}
    return collected


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
    assert str(error.value) == f"{tmp_path}: it is not empty; give a new folder."
