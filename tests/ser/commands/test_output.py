"""Tables that commands print."""

import polars as pl
import pytest

from ser.commands import output
from tests.ser.factories import ser


def test_a_long_table_is_printed_like_a_short_one(capsys, monkeypatch):
    frame = pl.DataFrame({"head": ["a", "bb"], "n": [1, None], "dev score": ["0.5", None]})
    output.print_frame(frame)
    short = capsys.readouterr().out
    monkeypatch.setattr(output, "LONG", 1)
    output.print_frame(frame)
    assert capsys.readouterr().out == short


def test_a_csv_file_gets_its_folder(tmp_path):
    output.write_csv(pl.DataFrame({"n": [1]}), tmp_path / "new" / "t.csv")
    assert (tmp_path / "new" / "t.csv").read_text() == "n\n1\n"


@pytest.mark.parametrize(
    "words",
    [
        *("stack predict", "stack compare", "stack ablate", "predict x.wav", "pack run", "init"),
        *("corpus import csv .", "corpus split m.csv", "corpus join a.csv b.csv"),
        "heads import x.pt --as conv_pool",
    ],
)
def test_a_folder_is_no_file_to_write(tmp_path, words):
    done = ser(*words.split(), "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert f"file '{tmp_path}' is a directory; see `ser {words.split()[0]}" in done.stderr


def test_a_manifest_is_written_by_its_suffix(tmp_path):
    done = ser("corpus", "import", "csv", ".", "--out", "m.xlsx", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "ser: invalid value for '--out': 'm.xlsx' does not end in .parquet or .csv; see `ser "
        "corpus import --help`.\n",
    )
