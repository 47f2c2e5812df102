"""`docs/house.md` names what is there, in the order that the import contract has."""

import re
import tomllib

from tests.messages import ROOT

PAGE = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^((?:\w+/)+) {2,}\S.*$", PAGE, re.M)


def test_every_file_and_folder_of_the_page_exists():
    named = re.findall(r"`((?:[\w.]+/)+(?:[\w.]+)?|\w+\.toml)`", PAGE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_table_lists_every_folder_in_the_order_of_the_contract():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    layers = [set(layer.split(" | ")) for layer in reversed(contract["layers"])]
    listed = [row.removeprefix("ser/").rstrip("/") for row in ROWS]
    assert len(set(listed)) == len(listed)
    for layer in layers:
        part, listed = listed[: len(layer)], listed[len(layer) :]
        assert set(part) == layer
    assert listed == []
    installed = {p.name for p in (ROOT / "ser").iterdir() if p.is_dir() and p.name[0] != "_"}
    assert installed - {"models", "presets"} == set().union(*layers)


def test_no_test_module_imports_another():
    """What several tests use is in a conftest.py or a factory module."""
    line = re.compile(r"^\s*(from|import)\s+(tests\S*\.test_|tests\S*\s+import\s.*\btest_)", re.M)
    modules = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    assert [str(path) for path in modules if line.search(path.read_text(encoding="utf-8"))] == []
