import os
import platform
from importlib.metadata import version

import pytest

from ser.corpus import machine as module
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


@pytest.fixture
def unlimited(monkeypatch):
    monkeypatch.setattr(module, "_limited", False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_few_cores_give_each_call_one_thread_and_the_others_are_idle(monkeypatch, unlimited):
    monkeypatch.setattr(module, "cores", lambda: 4)
    assert module.idle_cores() == 0
    module.limit_threads()
    assert (os.environ["OMP_NUM_THREADS"], module.idle_cores()) == ("1", 3)


def test_a_number_of_threads_that_was_set_is_kept(monkeypatch, unlimited):
    monkeypatch.setattr(module, "cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    module.limit_threads()
    assert (os.environ["OMP_NUM_THREADS"], module.idle_cores()) == ("2", 0)


def test_many_cores_are_left_to_the_libraries(monkeypatch, unlimited):
    monkeypatch.setattr(module, "cores", lambda: 5)
    module.limit_threads()
    assert "OMP_NUM_THREADS" not in os.environ
    assert module.idle_cores() == 0
