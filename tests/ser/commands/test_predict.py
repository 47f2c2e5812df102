"""`ser predict`, as it is called."""

import json
import os
import subprocess

import pytest
from click.testing import CliRunner

from corpus.errors import UserError
from ser.cli import cli
from tests.ser.factories import BIN, ser
from tests.ser.predict.conftest import clips, small  # noqa: F401


@pytest.fixture
def audio(clips):  # noqa: F811
    return clips[0]


def predict(small, *words):  # noqa: F811
    """Call the command in this process, which has imported everything already."""
    call = ["predict", *map(str, words), "--run", str(small.run), "--device", "cpu"]
    return CliRunner().invoke(cli, call, catch_exceptions=False, standalone_mode=False)


def test_one_file_is_a_table_and_any_format_when_asked(small, audio, tmp_path):  # noqa: F811
    table = predict(small, audio, "--timing")
    assert table.return_value == 0
    expected = small.p(audio)
    assert table.stdout.replace("\n", "").startswith(
        f"{audio}  {expected.seconds:.1f} s  {expected.emotion} ("
    )
    spans = table.stderr.splitlines()[-1].split(", ")
    assert [part.split()[0] for part in spans] == ["import", "load", "predict"]
    said = json.loads(predict(small, audio, "--format", "json").stdout)
    assert said["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    out = tmp_path / "x.TextGrid"
    assert predict(small, audio, "--out", out).return_value == 0
    assert out.read_text().startswith('File type = "ooTextFile"\n')


def test_standard_input_is_a_clip(small, audio, tmp_path):  # noqa: F811
    found = subprocess.run(
        [str(BIN / "ser"), "predict", "-", "--run", str(small.run), "--format", "csv"],
        cwd=tmp_path,
        input=audio.read_bytes(),
        capture_output=True,
        check=True,
        env=os.environ,
    )
    header, row = found.stdout.decode().splitlines()
    assert header.startswith("path,seconds,emotion,p.angry")
    assert row.startswith(f"-,{small.p(audio).seconds:g},{small.p(audio).emotion},")


def test_a_folder_is_csv_and_bad_files_cost_a_line_each(small, audio, tmp_path):  # noqa: F811
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.wav").write_bytes(audio.read_bytes())
    (folder / "b.wav").write_text("not audio")
    found = predict(small, folder)
    assert found.return_value == 1
    assert len(found.stdout.splitlines()) == 2
    assert f"ser: {folder}/b.wav: not audio (Format not recognised)\n" in found.stderr
    again = predict(small, folder, "--out", tmp_path / "x.csv")
    assert again.return_value == 1
    assert (tmp_path / "x.csv").read_text() == found.stdout
    assert (tmp_path / "x.failed.csv").read_text().splitlines()[1] == (
        f"{folder}/b.wav,not audio (Format not recognised)"
    )


def test_mistakes_are_one_sentence(small, audio, tmp_path):  # noqa: F811
    for words, expected in {
        ("--window", "90"): (
            "window 90 and hop 5: give a window of 1 to 30 s and a hop of 0.1 s up to the window."
        ),
        ("--head", "none"): (
            f"{small.run}/heads/none/head.json: the head is not trained; run `ser heads train "
            "none`."
        ),
    }.items():
        with pytest.raises(UserError) as error:
            predict(small, audio, *words)
        assert str(error.value) == expected
    found = ser("predict", "--help", cwd=tmp_path)
    assert found.returncode == 0
    assert "FILES|FOLDER|-" in found.stdout
