"""Missing packages: one message names every extra that the command and its pipeline need."""

import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from ser.commands import stack
from ser.commands.extras import INCLUDED, KINDS, PACKAGES, missing
from ser.commands.main import cli
from ser.corpus.errors import UserError
from ser.extract.extractor import EXTRACTORS
from ser.version import DISTRIBUTION
from tests.ser.factories import PIPELINE

EXTRAS = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]


def extras(absent, command, monkeypatch, **options):
    """Return the extras that the message names when these packages are missing."""
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    error = missing(ModuleNotFoundError(name=absent[0]), command, options)
    text = str(error)
    assert text.startswith(f"the package {absent[0]} is not installed; run `pip install '")
    return text.partition("[")[2].partition("]")[0].split(",")


def test_the_extras_are_those_of_the_distribution():
    assert set(PACKAGES) <= set(EXTRAS)

    def included(extra):
        inner = [r[len(DISTRIBUTION) + 1 : -1] for r in EXTRAS[extra] if r.startswith(DISTRIBUTION)]
        return {*inner, *(deeper for name in inner for deeper in included(name))}

    assert {e: included(e) for e in PACKAGES if included(e)} == INCLUDED


def test_a_command_names_its_own_extra(monkeypatch):
    assert extras(["transformers"], "demo", monkeypatch) == ["demo"]
    assert extras(["torch", "plotly"], "report", monkeypatch) == ["heads", "report"]
    assert extras(["ray"], "extract", monkeypatch, engine="ray") == ["ray"]
    assert missing(ModuleNotFoundError(name="my_plugin"), "run", {}) is None


def test_a_pipeline_names_all_extras_that_are_missing(tmp_path, monkeypatch):
    path = tmp_path / "pipeline.yaml"
    words = "  words: {kind: asr, model: openai/whisper-tiny.en}\n"
    text = PIPELINE.replace("features:\n", f"features:\n{words}").replace("lr:", "log: mlflow, lr:")
    path.write_text(text.replace("cache: cache", "cache: s3://bucket/cache"))
    absent = ["torch", "ctranslate2", "mlflow", "s3fs"]
    assert extras(absent, "run", monkeypatch, path=path) == ["extract", "remote", "tracking"]


@pytest.mark.parametrize(
    ("library", "remedy"),
    [
        ("libgomp.so.1", "install it (on Debian and Ubuntu `apt install libgomp1`)."),
        ("libodd.so.3", "install it."),
    ],
)
def test_a_missing_library_of_the_system_is_named(tmp_path, monkeypatch, library, remedy):
    problem = f"{library}: cannot open shared object file: No such file or directory"
    (tmp_path / "lightgbm.py").write_text(f"raise OSError({problem!r})")
    for module in ("lightgbm", "ser.stack.boosting"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(stack, "load_pipeline", lambda *given: import_module("ser.stack.boosting"))
    with pytest.raises(UserError) as error:
        cli(["stack", "fit"], standalone_mode=False)
    assert str(error.value) == f"the system lacks the library {library}; {remedy}"


def test_a_missing_package_is_not_called_a_missing_model(tmp_path, monkeypatch):
    (tmp_path / "m.csv").write_text("utterance,path\na,a.wav\n")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    words = ["extract", "--model", "wavlm-large", "--manifest", str(tmp_path / "m.csv")]
    with pytest.raises(UserError, match=r"^the package huggingface_hub is not .*\[extract\]'`\.$"):
        cli([*words, "--audio", str(tmp_path)], standalone_mode=False)


def test_every_kind_with_a_model_has_an_extra():
    kinds = {kind for of_extra in KINDS.values() for kind in of_extra}
    without_model = {"imported", "imported_transcripts", "pitch", "prosody"}
    assert {*EXTRACTORS.built_in} - kinds == without_model
