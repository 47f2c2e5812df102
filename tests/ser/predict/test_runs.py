"""The error for what is no run names those that there are, of synthetic speech as such."""

import json
from zipfile import ZipFile

import pytest

import ser
from ser.corpus.errors import UserError
from ser.predict.runs import trained_runs
from tests.ser.predict.factories import trained

NONE = "none was found here: train one with `ser run`, or get a bundle that `ser pack` made"


def packed(path, **record):
    with ZipFile(path, "w") as bundle:
        bundle.writestr("heads/one/head.json", json.dumps(record))


def test_runs_and_bundles_are_found_and_synthetic_ones_come_last(tmp_path):
    trained(tmp_path / "runs" / "demo")
    trained(tmp_path / "runs" / "deep" / "mine", synthetic=0.0)
    trained(tmp_path / "runs" / "tts", synthetic=0.25)
    (tmp_path / "runs" / "untrained").mkdir()
    (tmp_path / "runs" / "untrained" / "pipeline.yaml").touch()
    packed(tmp_path / "a.ser", synthetic=1.0)
    packed(tmp_path / "runs" / "b.ser")
    (tmp_path / "broken.ser").write_bytes(b"PK\x03\x04")
    values = [name.replace(f"{tmp_path}/", "") for name in trained_runs(tmp_path)]
    assert values == [
        *("runs/deep/mine", "broken.ser", "runs/b.ser"),
        *(f"{n} (trained on synthetic speech)" for n in ("runs/demo", "runs/tts", "a.ser")),
    ]


def test_what_is_no_run_names_those_that_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        ser.load("absent")
    assert str(error.value) == f"absent: it does not exist; {NONE}."
    for i in range(7):
        trained(tmp_path / "runs" / f"r{i}")
    with pytest.raises(UserError) as error:
        ser.load("absent")
    assert str(error.value) == (
        "absent: it does not exist; found here: runs/r0, runs/r1, runs/r2, runs/r3, runs/r4 and 2 "
        "more."
    )
