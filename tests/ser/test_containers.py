"""The container files name what exists. Nothing is built: that needs registries."""

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.messages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FILES = ("Containerfile", "ser.def")


def copied(text):
    """Return the files and folders that a container file copies to /src."""
    lines = re.findall(r"^(?:COPY|   ) (.+) /src/\S*$", text, re.M)
    return {name for line in lines for name in line.split()}


@pytest.mark.parametrize("name", FILES)
def test_it_copies_all_that_the_distribution_is_built_from(name):
    links = {path.name for path in (ROOT / "ser").iterdir() if path.is_symlink()}
    needed = {"ser", "pyproject.toml", "constraints.txt", PROJECT["readme"], *links}
    assert copied((ROOT / name).read_text()) == needed | set(PROJECT["license-files"])
    assert all((ROOT / "ser" / link).resolve() == ROOT / link for link in links)


@pytest.mark.parametrize("name", FILES)
def test_it_installs_extras_that_exist_at_the_versions_of_ci(name):
    text = (ROOT / name).read_text()
    (extras,) = re.findall(r"^.*extras=(\S+)$", text, re.M | re.I)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert text.count("pip install") == 2
    assert text.count("pip install --no-cache-dir --constraint /src/constraints.txt ") == 2
    version = re.search(r"^(?:FROM|From:) \S*python:([\d.]+)-slim$", text, re.M)[1]
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


def test_both_install_the_same():
    container, apptainer = ((ROOT / name).read_text() for name in FILES)
    for value in (r"python:\S+", r"extras=(\S+)", r"torch_index=(\S+)$"):
        first, second = (re.findall(value, text, re.M | re.I) for text in (container, apptainer))
        assert set(first) == set(second) and first
    assert 'ENTRYPOINT ["ser"]' in container and 'exec ser "$@"' in apptainer
    assert "ser" in PROJECT["scripts"]


@pytest.mark.parametrize("name", FILES)
def test_it_installs_the_library_that_lightgbm_needs_of_the_system(name):
    library = Path(find_spec("lightgbm").origin).parent / "lib" / "lib_lightgbm.so"
    assert b"\0libgomp.so.1\0" in library.read_bytes()  # and no wheel has it under this name
    assert "apt-get install -y --no-install-recommends libgomp1" in (ROOT / name).read_text()
