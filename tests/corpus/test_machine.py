import os
import platform
from importlib.metadata import version

from ser.corpus.machine import _gpus, machine, versions
from ser.version import __version__


def test_versions_are_those_of_the_metadata_and_unknown_packages_are_left_out():
    assert versions(["numpy", "no-such-package"]) == {
        "python": platform.python_version(),
        "ser": __version__,
        "numpy": version("numpy"),
    }


def test_the_machine_is_described():
    description = machine()
    assert list(description) == ["platform", "cpu", "cores", "memory_gb", "gpu"]
    assert description["cores"] == os.cpu_count()
    assert description["platform"] == platform.platform()


def test_gpus_are_named_by_the_driver(tmp_path):
    assert _gpus(tmp_path) is None
    for i, name in enumerate(("Quadro RTX 8000", "Tesla T4")):
        (tmp_path / f"0000:0{i}").mkdir()
        (tmp_path / f"0000:0{i}" / "information").write_text(f"Model: \t {name}\nIRQ: 7\n")
    assert _gpus(tmp_path) == "Quadro RTX 8000, Tesla T4"
