"""What `import ser` gives: light, listed, documented, and every example in it true."""

import doctest
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

import ser
from ser.stages.run import run_all

PUBLIC = sorted(set(ser.__all__) - {"__version__"})
PIPELINE = """\
corpus: {manifest: mine.csv, audio: clips, classes: [angry, sad]}
cache: data/cache
run: runs/mine
features: {voice: {kind: prosody}}
heads:
  defaults: {features: [{name: voice, normalize: corpus}], hidden: 8, epochs: 8, lr: 0.05}
  audio: {head: attentive_stats}
  plain: {head: mean_mlp}
stack: {model: mean_proba, heads: [audio]}
score: {bootstrap: 2}
"""


def tone(pitch, seconds):
    times = np.arange(int(16_000 * seconds)) / 16_000
    return sum(np.sin(2 * np.pi * pitch * k * times) / k for k in range(1, 8)) * 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a corpus of tones, its cache, a run of two heads, and a clip."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "clips").mkdir()
    rows = []
    for i in range(30):
        emotion, pitch = (("angry", 260), ("sad", 110))[i % 2]
        soundfile.write(folder / "clips" / f"{i}.wav", tone(pitch + i, 0.5), 16_000)
        split = ("train", "train", "dev")[i // 2 % 3]
        rows.append((str(i), f"{i}.wav", emotion, f"{split}-{i % 4}", split))
    columns = ["utterance", "path", "emotion", "speaker", "split"]
    pl.DataFrame(rows, columns, orient="row").write_csv(folder / "mine.csv")
    (folder / "mine.yaml").write_text(PIPELINE)
    lines = []
    _, failed = run_all(ser.Pipeline.load(folder / "mine.yaml"), "cpu", lines.append)
    assert not failed, lines
    soundfile.write(folder / "clip.wav", tone(270, 1.5), 16_000)
    return folder


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_of_a_public_name_is_true(name, folder, monkeypatch, clean_registries):
    monkeypatch.chdir(folder)
    value = getattr(ser, name)
    module = importlib.import_module(value.__module__)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    (test,) = finder.find(value, name, module, globs=dict(vars(module)))
    assert test.examples, f"{name} has no example"
    failures = []
    runner.run(test, out=failures.append)
    assert runner.failures == 0, "".join(failures)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_of_a_public_name_is_explained(name):
    value = getattr(ser, name)
    if value is ser.UserError:
        return
    text = inspect.getdoc(value) or ""
    for argument in inspect.signature(value).parameters.values():
        stars = "**" if argument.kind is argument.VAR_KEYWORD else ""
        assert f"    {stars}{argument.name}: " in text, (name, argument.name)


def test_the_names_are_listed_and_found():
    assert dir(ser) == sorted(ser.__all__)
    assert set(ser.MODULES) | {"load", "__version__"} == set(ser.__all__)
    assert set(ser.PACKAGES) == {
        path.name
        for path in Path(ser.__file__).parent.iterdir()
        if (path / "__init__.py").is_file()
    }
    assert ser.stages.run.run_all is run_all


def test_a_name_that_is_wrong_gets_the_nearest():
    with pytest.raises(AttributeError) as error:
        ser.HeadClasifier  # noqa: B018
    assert str(error.value) == (
        "module 'ser' has no attribute 'HeadClasifier'; did you mean 'HeadClassifier'?"
    )
    with pytest.raises(AttributeError, match=r"has no attribute 'zzz'; see dir\(ser\)$"):
        ser.zzz  # noqa: B018
    assert not hasattr(ser, "__wrapped__")


def test_importing_ser_is_light():
    code = (
        "import sys, json; import ser; dir(ser)\n"
        "print(json.dumps([[m for m in sys.modules if 'ser' == "
        "m.partition('.')[0]], [m for m in ('torch', 'numpy', 'polars', 'sklearn', 'pydantic') "
        "if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours, heavy = json.loads(done.stdout)
    assert (sorted(ours), heavy) == (["ser", "ser.version"], [])


def test_results_and_predictors_show_themselves(folder, monkeypatch):
    monkeypatch.chdir(folder)
    predictor = ser.load("runs/mine", "cpu")
    html = predictor._repr_html_()
    for text in ("runs/mine", "stack mean_proba", "angry, sad", "voice"):
        assert text in html
    result = predictor("clip.wav")
    html = result._repr_html_()
    assert html.count("<tr>") == 3  # the names, two emotions
    assert f"{result.probabilities['angry']:.2f}" in html
    assert "http" not in html


def test_what_a_result_shows_is_escaped():
    segment = ser.Segment(0, 1, "<b>", {"<b>": 1.0}, {}, "a < b", {})
    values = ("<b>", {"<b>": 1.0}, {"arousal": 4.0}, "a < b", {})
    result = ser.Result("<i>.wav", 2.0, *values, [segment] * 30, ("1 & 2",))
    html = result._repr_html_()
    assert "<i>" not in html
    assert html.count("a &lt; b") == 21  # the clip's, and those of 20 segments
    assert "and 10 more" in html
    assert "Note: 1 &amp; 2" in html
    assert repr(result) == "Result('<i>.wav', 2.0 s, <b> 1.00, 30 segments, note: 1 & 2)"
