"""What is installed: one package, wherever it is used from."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ser
from ser.version import DISTRIBUTION, install

ROOT = Path(__file__).parents[2]
NAMES = ("cache", "corpus", "extract", "heads", "score", "stack", "presets", "bench")


def test_files_of_a_user_that_have_our_names_break_nothing(tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is not part of ser')\n")
    code = (
        "import ser, ser.commands.main, ser.stages.run, ser.predict.predictor, ser.stack.run;"
        "from ser.presets import names, preset; assert all(map(preset, names()));"
        "from ser.cache.features import FeatureCache; print(FeatureCache.__module__)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ser.cache.features\n", "")


def test_the_wheel_has_one_name_at_its_top(tmp_path):
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", ROOT, source], check=True)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"ser", f"ser_pipeline-{ser.__version__}.dist-info"}
    data = (
        "py.typed",
        "extract/models.csv",
        "corpus/importers/emobox.yaml",
        "corpus/importers/specs/emovo.yaml",
        "presets/unicamp.yaml",
        "score/report/report.html.j2",
        "packing/citations.bib",
        "serve/example.ogg",
        "serve/live.js",
        "serve/recorder.js",
        "models/acted-speech-4.ser",
    )
    assert {f"ser/{name}" for name in data} <= set(names)
    assert "ser/heads/architectures/cross_modal_gru.py" in names


def test_hints_name_the_distribution():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nname = "{DISTRIBUTION}"\n' in project
    assert install("media") == "pip install 'ser-pipeline[media]'"


def test_ci_pins_every_package_that_the_project_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    extras = project["optional-dependencies"]
    named = [Requirement(text) for text in project["dependencies"]]
    named += [Requirement(text) for extra, texts in extras.items() for text in texts]
    unpinned = {"bitsandbytes", "setuptools"}  # CUDA only; not listed by pip freeze
    for requirement in named:
        name = canonicalize_name(requirement.name)
        if name != DISTRIBUTION and name not in unpinned:
            assert pinned[name] in requirement.specifier, f"{requirement}: run `make constraints`"
    assert not any("+" in version for version in pinned.values())  # as in torch==2.13.0+cpu
