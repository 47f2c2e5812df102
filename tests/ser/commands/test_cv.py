"""`ser cv` and `ser cross`: options over the section of the file, and heads that fail."""

import polars as pl
import pytest
from typer.testing import CliRunner

from ser.commands.cv import _config
from ser.commands.main import cli
from ser.corpus.errors import UserError
from ser.corpus.rotations import RotationConfig
from tests.ser.stages.factories import pipeline_of


def test_options_replace_those_of_the_section(tmp_path):
    pipeline = pipeline_of(tmp_path, "{by: speaker, groups: 3, dev: share}")
    assert _config(pipeline, None, None, None) == pipeline.cv
    assert _config(pipeline, None, 2, None) == RotationConfig(groups=2, dev="share")
    assert _config(pipeline, "speaker", None, "none") == RotationConfig(groups=3, dev="none")
    assert _config(pipeline, "session", None, None) == RotationConfig(by="session")


def test_a_head_that_fails_in_a_rotation_is_named(tmp_path):
    pipeline_of(tmp_path)  # a speaker has all emotions, so no speaker is known here
    frame = pl.read_csv(tmp_path / "m.csv").with_columns(speaker=pl.lit(None))
    frame.write_csv(tmp_path / "m.csv")
    file = str(tmp_path / "pipeline.yaml")
    words = ["cv", "--by", "emotion", "--dev", "none", "--jobs", "1", "--pipeline", file]
    error = CliRunner().invoke(cli, words, standalone_mode=False).exception
    assert error.exit_code == 1
    assert str(error).startswith("nothing scored: head 'emotion-angry/one' could not be trained (")
    failed = pl.read_csv(tmp_path / "run/cv/emotion/emotion-angry/heads/failed.csv")
    assert failed["head"].to_list() == ["one"]
    assert "angry" in failed["error"][0]
    assert not (tmp_path / "run/cv/emotion/rotations.json").exists()


def test_a_corpus_that_cannot_be_crossed(tmp_path):
    pipeline_of(tmp_path)
    words = ["cross", "--pipeline", str(tmp_path / "pipeline.yaml")]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert isinstance(result.exception, UserError)
    assert "the column 'corpus' is empty; fill it in" in str(result.exception)


def test_no_column_is_called_so(tmp_path):
    pipeline = pipeline_of(tmp_path)
    for name in ("", "a\nb", "x" * 300):
        with pytest.raises(UserError, match=r"^--by '.*': no column can be called so; give a"):
            _config(pipeline, name, None, None)
