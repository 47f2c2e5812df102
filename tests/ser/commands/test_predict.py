"""`ser predict`, as it is called."""

import json

import pytest
from typer.testing import CliRunner

from ser.commands.main import cli
from ser.corpus.errors import UserError
from ser.pipeline.file import Pipeline
from tests.ser.factories import ser, ser_process


@pytest.fixture
def audio(clips):
    return clips[0]


def predict(small, *words, head="seen", stdin=None):
    """Call the command in this process, which has imported everything already."""
    words = [*words, *(["--head", head] if head else [])]
    call = ["predict", *map(str, words), "--run", str(small.run), "--device", "cpu"]
    return CliRunner().invoke(cli, call, stdin, catch_exceptions=False, standalone_mode=False)


def test_one_file_is_a_table_by_default_and_any_format_on_request(small, audio, tmp_path):
    table = predict(small, audio, "--timing", head=None)
    assert table.return_value == 0
    expected = small.p(audio)
    assert table.stdout.replace("\n", "").startswith(
        f"{audio}  {expected.seconds:.1f} s  {expected.emotion} ("
    )
    spans = table.stderr.splitlines()[-1].split(", ")
    assert [part.split()[0] for part in spans] == ["import", "load", "predict"]
    answer = json.loads(predict(small, audio, "--format", "json", head=None).stdout)
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    out = tmp_path / "x.TextGrid"
    assert predict(small, audio, "--out", out).return_value == 0
    assert out.read_text().startswith('File type = "ooTextFile"\n')


def test_below_the_wanted_confidence_a_prediction_is_unsure(small, audio, tmp_path):
    expected = small.seen(audio)
    table = predict(small, audio, "--min-confidence", "1").stdout.replace("\n", "")
    assert f"s  unsure ({expected.emotion} {max(expected.probabilities.values()):.2f})" in table
    out = tmp_path / "out.csv"
    assert predict(small, audio, "--min-confidence", "0", "--out", out).return_value == 0
    names, row = (line.split(",") for line in out.read_text().splitlines())
    assert names[2:4] == ["emotion", "unsure"]
    assert row[2:4] == [expected.emotion, "false"]
    out = tmp_path / "strict.csv"
    strict = predict(small, audio, "--min-confidence", "1", "--out", out)
    assert strict.stdout == f"{out}: 1 file, 1 of 1 prediction unsure\n"


def test_a_wrong_name_is_reported_before_any_model_is_loaded(tmp_path):
    absent = tmp_path / "absent.wav"
    call = ["predict", str(absent), "--run", str(tmp_path / "no-run")]
    with pytest.raises(UserError, match=r"absent\.wav: no such file; check the name\.$"):
        CliRunner().invoke(cli, call, catch_exceptions=False, standalone_mode=False)


def test_standard_input_is_a_clip(small, audio):
    prediction = predict(small, "-", "--format", "csv", stdin=audio.read_bytes())
    header, row = prediction.stdout.splitlines()
    assert header.startswith("path,seconds,emotion,p.angry")
    assert row.startswith(f"-,{small.seen(audio).seconds:g},{small.seen(audio).emotion},")


def test_a_folder_is_csv_and_bad_files_cost_a_line_each(small, audio, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.wav").write_bytes(audio.read_bytes())
    (folder / "b.wav").write_text("not audio")
    prediction = predict(small, folder)
    assert prediction.return_value == 1
    assert len(prediction.stdout.splitlines()) == 2
    assert f"ser: {folder}/b.wav: not audio (Format not recognised)\n" in prediction.stderr
    again = predict(small, folder, "--out", tmp_path / "x.csv")
    assert again.return_value == 1
    assert (tmp_path / "x.csv").read_text() == prediction.stdout
    assert (tmp_path / "x.failed.csv").read_text().splitlines()[1] == (
        f"{folder}/b.wav,not audio (Format not recognised)"
    )


def test_files_that_are_all_done_need_no_torch(small, audio, tmp_path):
    assert predict(small, audio, "--out", tmp_path / "x.csv", head=None).return_value == 0
    before = (tmp_path / "x.csv").read_text()
    words = ["predict", audio, "--run", small.run, "--out", "x.csv"]
    done = ser_process(*words, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {"torch", "transformers", "ctranslate2", "sklearn", "scipy"}
    assert imported > {"ser.predict.predictor"} and not imported & heavy
    assert (tmp_path / "x.csv").read_text() == before


def test_mistakes_are_reported_in_one_sentence(small, audio, tmp_path):
    systems = Pipeline.load(small.run / "pipeline.yaml").systems
    for words, expected in {
        ("",): "FILES: a name is empty; give the name of a file or folder.",
        ("--window", "90"): (
            "window 90 and hop 5: give a window of 1 to 30 s and a hop of 0.1 s up to the window."
        ),
        ("--head", "none"): (
            f"{small.run}: there is no head 'none'; choose from {', '.join(systems)}."
        ),
    }.items():
        with pytest.raises(UserError) as error:
            predict(small, audio, *words, head=None)
        assert str(error.value) == expected
    output = ser("predict", "--help", cwd=tmp_path)
    assert output.returncode == 0
    assert "FILES|FOLDER|-" in output.stdout


def test_turns_and_one_speaker(small, clips, tmp_path):
    first, second = clips[:2]
    turns = tmp_path / "x.rttm"
    turns.write_text(
        f"SPEAKER {first.stem} 1 0 0.25 <NA> <NA> anna <NA> <NA>\n"
        f"SPEAKER {first.stem} 1 0.125 0.25 <NA> <NA> ben <NA> <NA>\n"
    )
    csv = predict(small, first, second, "--turns", turns, "--format", "csv")
    assert csv.return_value == 1
    assert csv.stdout.startswith("path,start,end,speaker,emotion,")
    assert [row.split(",")[1:4] for row in csv.stdout.splitlines()[1:]] == [
        *(["0", "0.25", "anna"], ["0.125", "0.375", "ben"]),
    ]
    assert (
        f"{second}: {turns} has no turns of '{second.stem}', only of {first.stem}; "
        in csv.stderr.replace("\n", "")
    )
    out = tmp_path / "x.csv"
    assert predict(small, first, "--turns", turns, "--out", out).return_value == 0
    assert out.read_text() == csv.stdout
    turns.write_text(turns.read_text() + "SPEAKER other 1 0 1 <NA> <NA> ben <NA> <NA>\n")
    noted = predict(small, first, "--turns", turns, "--format", "csv")
    assert (noted.return_value, noted.stdout) == (0, csv.stdout)
    assert "1 turn left out, of recordings that are not in this call" in noted.stderr
    turns.write_text("".join(turns.read_text().splitlines(keepends=True)[:2]))
    stdin = predict(small, "-", "--turns", turns, "--format", "rttm", stdin=first.read_bytes())
    assert [text.split()[7] for text in stdin.stdout.splitlines()] == ["anna", "ben"]
    table = tmp_path / "x.csv"
    table.write_text("start,end,speaker\n0,0.25,anna\n0.125,0.375,ben\n")
    rows = predict(small, first, "--turns", table, "--format", "csv").stdout
    assert rows == csv.stdout
    with pytest.raises(UserError, match="name no recording, and there are 2 files; predict one"):
        predict(small, first, second, "--turns", table)
    note = "--one-speaker changes nothing: no head in use has `normalize: speaker`."
    assert note in predict(small, first, "--one-speaker").stderr
    assert "changes nothing" not in predict(small, first, "--one-speaker", head="voice").stderr
    with pytest.raises(UserError, match="both given"):
        predict(small, first, "--one-speaker", "--turns", turns)
