import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from typer.testing import CliRunner

from ser.commands.corpus import corpus
from ser.commands.main import cli
from ser.commands.options import key_texts, key_values
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from tests.ser.factories import RUN, make_corpus, ser


def invoke(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(corpus, list(map(str, words)), catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_an_import_lists_its_columns_and_warns_of_odd_labels(tmp_path: Path) -> None:
    table = tmp_path / "labels #2.csv"
    table.write_text("@file,no,note\n1.wav,Angry,x\n2.wav,angry,y\n3.wav,,z\n")
    for i in (1, 2, 3):
        wave = 0.3 * np.sin(np.arange(8000) / (20 + i))
        soundfile.write(tmp_path / f"{i}.wav", wave, 16_000)
    out = tmp_path / "m.parquet"
    options = [f"table={table}", "path=@file", "emotion=no"]
    flags = [word for option in options for word in ("--option", option)]
    code, stdout, stderr = invoke("import", "csv", tmp_path, "--out", out, *flags)
    assert code == 0
    assert stdout.splitlines()[:3] == [
        "columns used: @file (as path), no (as emotion)",
        "columns left out: note",
        f"{out}: 3 utterances, 2 with a class, 0 with a split; classes: Angry, angry",
    ]
    assert stderr.splitlines() == [
        "ser: warning: nothing split: none of 3 rows is in train, dev or test; run `ser corpus "
        f"split {out}`",
        "ser: warning: classes that differ only in case: 'Angry' and 'angry'",
    ]
    assert Manifest.read(out).frame["emotion"].to_list() == ["Angry", "angry", None]
    (tmp_path / "2.wav").rename(tmp_path / "4.wav")
    stderr = invoke("import", "csv", tmp_path, "--out", out, *flags)[2]
    assert stderr.splitlines()[-1] == (
        f"ser: warning: audio missing: 1 of 3 files, as {tmp_path}/2.wav; put it there, or import "
        "again with the folder that the paths start from"
    )
    (tmp_path / "4.wav").rename(tmp_path / "2.wav")
    assert CliRunner().invoke(corpus, ["check", str(out)], standalone_mode=False).return_value == 1
    stdout = invoke("check", out)[1]
    assert "nothing split" in stdout
    assert "classes that" in stdout


def test_a_wrong_option_is_reported_in_one_sentence_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,emotion\n1.wav,04\n")
    words = ["corpus", "import", "csv", ".", "--out", "m.csv", "--option", "table=t.csv"]
    done = ser(*words, "--option", "emotions={4: sad}", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ser: t.csv: option emotions maps '4', but no cell has this value; did you mean '04'?\n"
    )
    assert not (tmp_path / "m.csv").exists()


def test_options_are_split_at_the_first_equals_sign() -> None:
    assert key_texts(("a-b=c=d", "e= ", "f=")) == {"a_b": "c=d", "e": " ", "f": ""}
    for wrong in (("a",), ("=b",), ("a=1", "a=2")):
        with pytest.raises(UserError, match=r"^--option"):
            key_texts(wrong)


@pytest.mark.parametrize("value", ["@x", "[", "a: b: c", "*x", "[" * 500])
def test_values_that_are_no_yaml_are_reported_in_one_sentence(value: str) -> None:
    assert key_values(("batch=8", "window=trim")) == {"batch": 8, "window": "trim"}
    with pytest.raises(
        UserError, match=r"^--option key: (not valid YAML|the alias \*x|it is nested)"
    ):
        key_values((f"key={value}",))


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of the rows of a printed table."""
    lines = text.rpartition("─ \n")[2].splitlines()
    return [line.split() for line in lines if line.startswith(" ") and line.strip()]


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    names = ["(none)", ":smile:", "[/noise]", "[noise]"]
    rows = [f"{i}.wav,{name}" for i, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["path,emotion", *rows, "x.wav,"]))
    out = ["--out", str(tmp_path / "m.csv"), "--option", f"table={tmp_path / 't.csv'}"]
    done = CliRunner().invoke(cli, ["corpus", "import", "csv", str(tmp_path), *out])
    assert done.exit_code == 0
    assert [row[0] for row in table_rows(done.output)] == [*names, "((none))"]


def test_a_split_is_written_in_place_and_reports_what_it_replaced(tmp_path: Path) -> None:
    rows = [f"{i}.wav,s{i % 4},{'ab'[i % 2]},{'train' if i < 3 else ''}" for i in range(8)]
    path = tmp_path / "m.csv"
    path.write_text("\n".join(["path,speaker,emotion,split", *rows]))
    assert invoke("import", "csv", tmp_path, "--out", path, "--option", f"table={path}")[0] == 0
    code, stdout, stderr = invoke("split", path, "--test", "0.25", "--dev", "0.25")
    assert (code, stderr) == (0, "")
    assert stdout.splitlines()[0] == f"{path}: split written, replacing train: 3"
    assert table_rows(stdout)[0][1:] == ["4", "2", "2"]
    written = Manifest.read(path)
    assert [len(written.utterances(s)) for s in ("train", "dev", "test")] == [4, 2, 2]
    folds = tmp_path / "else" / "folds.csv"
    code, stdout, stderr = invoke("split", path, "--folds", 4, "--out", folds, "--json")
    assert code == 0
    assert json.loads(stdout)["replaced"] == {}
    assert json.loads(stdout)["parts"]["4"]["clips"] == 2
    assert stderr == (
        f"ser: {folds}: a CSV does not record the audio folder; set corpus.audio of pipeline.yaml "
        f"to {tmp_path}.\n"
    )
    assert Manifest.read(path).frame.equals(written.frame)
    assert Manifest.read(folds).frame["fold"].n_unique() == 4
    code, _, _ = invoke("split", path, "--out", folds.with_suffix(".parquet"))
    assert Manifest.read(folds.with_suffix(".parquet")).audio_folder() == tmp_path


def test_manifests_are_joined_with_what_was_done_and_a_table(tmp_path: Path) -> None:
    for name in ("de", "it"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.wav").touch()
        rows = "utterance,path,speaker,emotion,arousal\na,1.wav,s,joy,2\n"
        (tmp_path / name / "m.csv").write_text(rows)
    words = ["join", f"{tmp_path}/de/m.csv", f"it={tmp_path}/it/m.csv", "--map", "it:joy=happy"]
    words += ["--rescale", "it=1:5", "--audio", f"it={tmp_path}/it"]
    code, stdout, _ = invoke(*words, "--out", tmp_path / "j.parquet")
    assert code == 0
    assert stdout.splitlines()[:2] == [
        "arousal, after rescaling it: m 2 to 2, it 2.5 to 2.5",
        f"{tmp_path}/j.parquet: 2 utterances, 2 with a class, 0 with a split; classes: happy, joy",
    ]
    joined = Manifest.read(tmp_path / "j.parquet")
    assert [joined.audio_folder() / path for path in joined.frame["path"]] == [
        *(tmp_path / name / "1.wav" for name in ("de", "it"))
    ]
    code, stdout, _ = invoke(*words, "--out", tmp_path / "j.csv", "--json")
    assert json.loads(stdout)["classes"][0] == {"class": "happy", "m": 0, "it": 1, "all": 1}
    assert Manifest.read(tmp_path / "j.csv").frame["path"][0] == str(tmp_path / "de" / "1.wav")
    (tmp_path / "de" / "1.wav").unlink()
    assert invoke(*words, "--out", tmp_path / "j.csv")[2] == (
        f"ser: warning: audio missing: 1 of 2 files, as {tmp_path}/de/1.wav; put it there, or give "
        "its folder with --audio\n"
    )
    for wrong in (["--rescale", "it=5"], ["--map", "joy"], ["--audio", "fr=x"]):
        with pytest.raises(UserError, match=wrong[0]):
            invoke(*words, "--out", tmp_path / "j.csv", *wrong)


def test_importers_are_listed_and_described() -> None:
    code, stdout, _ = invoke("importers")
    assert code == 0
    assert "emovo        EMOVO: acted Italian speech, 6 actors, 7 classes." in stdout.splitlines()
    lines = invoke("importers", "emovo")[1].splitlines()
    assert lines[0] == "EMOVO: acted Italian speech, 6 actors, 7 classes."
    assert "Licence: for research." in " ".join(lines)
    (entry,) = json.loads(invoke("importers", "emovo", "--json")[1])
    assert entry == {"name": "emovo", "description": "\n".join(lines)}


def test_files_are_imported_by_a_yaml(tmp_path: Path) -> None:
    (tmp_path / "a-sad.wav").touch()
    (tmp_path / "my.yaml").write_text("pattern: (?P<speaker>.)-(?P<emotion>.+)\n")
    out = tmp_path / "m.csv"
    option = f"spec={tmp_path / 'my.yaml'}"
    code, stdout, stderr = invoke("import", "files", tmp_path, "--out", out, "--option", option)
    assert code == 0
    line = f"{out}: 1 utterance, 1 with a class, 0 with a split; classes: sad"
    assert stdout.splitlines()[0] == line
    assert f"run `ser corpus split {out}`" in stderr


def test_dropped_emotions_leave_what_was_made_without_them_up_to_date(tmp_path: Path) -> None:
    frame = make_corpus(tmp_path, count=12)
    assert ser(*RUN, "--set", "heads.defaults.epochs=1", cwd=tmp_path).returncode == 0
    bored = frame.head(2).with_columns(pl.col("utterance") + "x", emotion=pl.lit("bored"))
    pl.concat([frame, bored]).write_csv(tmp_path / "m.csv")
    words = [*RUN, "--set", "heads.defaults.epochs=1"]
    refused = ser(*words, cwd=tmp_path)
    assert refused.returncode == 2
    assert "emotion 'bored' is not one of the classes" in refused.stderr
    again = ser(*words, "--set", "corpus.others=drop", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    lines = again.stdout.splitlines()
    assert lines[0] == "corpus   left out, as no class is called so: 'bored' (2 rows)"
    assert lines[1].startswith("extract  prosody: up to date (12 cached)")
    assert lines[2].startswith("heads    one: up to date")
    assert lines[3].startswith("heads    two: up to date")
