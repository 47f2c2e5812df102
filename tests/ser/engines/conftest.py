import sys

import pytest

from tests.ser import warm


@pytest.fixture
def warm_workers(monkeypatch):
    """Start workers that have their libraries already; one test of each kind starts plain ones."""
    monkeypatch.setattr(sys, "executable", str(warm.folder() / "python"))
