"""Every worker of the test run has one core: more threads only wait for each other."""

import ctypes
import functools
import gc
import logging
import os
import shutil
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # also of the commands that tests start
os.environ["POLARS_MAX_THREADS"] = "1"

import hypothesis
import pytest
import typer.main
import typer.testing
from filelock import FileLock

from ser.corpus.progress import show_progress

gc.disable()  # while test modules are imported, nearly all of which stays

# a busy machine is no failure, and `make test` tries the same examples every time
common = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("quick", max_examples=10, derandomize=True, **common)
hypothesis.settings.register_profile("thorough", max_examples=100, **common)  # `make test-all`
hypothesis.settings.load_profile("quick")


def pytest_collection_finish():
    """Look for garbage again, but not among what the modules have imported."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def plain_logging():
    """Take back what a command called in this process sets: handlers of ser's loggers, and bars."""
    yield
    show_progress(None)
    log = logging.getLogger("ser")
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    log.propagate = True
    log.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True, scope="module")
def freed_memory_returned():
    """Return to the system what the trainings and models of a module have freed (glibc alone)."""
    yield
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True, scope="session")
def without_waiting_for_the_disk():
    """Make `os.fsync` return at once in this process: no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def commands_built_once():
    """Keep the commands that typer builds of the command line anew for every call."""
    with pytest.MonkeyPatch.context() as patch:
        build = functools.cache(typer.main.get_command)
        patch.setattr("typer.main.get_command", build)
        patch.setattr("typer.testing._get_command", build)
        yield


@pytest.fixture(autouse=True, scope="session")
def without_baseline():
    """Train the heads that a test lists and no other; tests of the baseline switch it on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ser.pipeline.baseline.DEFAULT", False)
        yield


@pytest.fixture(scope="session")
def build_once(tmp_path_factory):
    """Return `build_once(name, build)`: a folder that the first worker to ask for it builds."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # of all workers

    def build_once(name, build):
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                build(folder)
                done.touch()
        return folder

    return build_once


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return a hub of this machine, `tests.hub_server.HubServer`, that this process may write to.

    `huggingface_hub` reads its variables when it is imported, so its constants are set.
    """
    pytest.importorskip("huggingface_hub")
    from tests.hub_server import TOKEN, HubServer

    server = HubServer()
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(tmp_path / "hf" / "hub"),
        "HF_TOKEN_PATH": str(tmp_path / "hf" / "token"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.close()
