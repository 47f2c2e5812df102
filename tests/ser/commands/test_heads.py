"""`ser heads`, and which heads `ser stack` and `ser score` take: what is said before any work."""

import pytest
from click.testing import CliRunner

from corpus.errors import UserError
from ser.cli import cli
from ser.heads import heads_table
from ser.pipeline import Pipeline
from tests.ser.factories import PIPELINE

CLASSES = "loss: [wce, sml], sampler: neutral_expressive"


def write(folder, text=PIPELINE):
    path = folder / "pipeline.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("jobs", ["some", "0", "-1", "1.5"])
def test_jobs_are_auto_or_a_number(tmp_path, jobs):
    words = ["heads", "train-all", "--jobs", jobs, "--pipeline", str(write(tmp_path))]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert f"Invalid value for '--jobs': '{jobs}' is neither auto nor a number from 1 on" in (
        done.output
    )


def test_without_heads_there_is_nothing_to_stack_or_score(tmp_path):
    none = write(tmp_path, PIPELINE[: PIPELINE.index("heads:")])
    for command in (["stack", "fit"], ["stack", "compare"], ["score"]):
        with pytest.raises(UserError) as error:
            cli([*command, "--pipeline", str(none)], standalone_mode=False)
        assert str(error.value) == (
            f"{none}: there are no heads to stack or score; add some under `heads:`."
        )


def test_the_list_says_what_is_learned_in_any_phase(tmp_path):
    phases = "phases: [{epochs: 1, loss: [wce, sml]}, {epochs: 2, loss: [wce], sampler: natural}]"
    sampled = f"sampler: class_balanced, {phases}"
    table = heads_table(Pipeline.load(write(tmp_path, PIPELINE.replace(CLASSES, sampled))))
    assert table.rows() == [
        ("one", "prosody", "wce", "natural", "no", None),
        ("two", "prosody", "wce+sml", "class_balanced+natural", "no", None),
    ]
