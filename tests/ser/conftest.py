import sys

import pytest

from ser.corpus.importers.registry import IMPORTERS
from ser.extract.extractor import EXTRACTORS
from ser.heads.registry import HEADS, LOSSES, SAMPLERS
from ser.score.metrics import METRICS
from ser.stack.registry import META_MODELS
from tests.ser import warm
from tests.ser.predict.fixtures import clips, light, small  # noqa: F401  of predict and commands


@pytest.fixture
def warm_workers(monkeypatch):
    """Start workers that have their libraries already; one test of each kind starts plain ones."""
    monkeypatch.setattr(sys, "executable", str(warm.folder() / "python"))


@pytest.fixture
def clean_registries():
    """Forget the parts that an example registers."""
    registries = [IMPORTERS, EXTRACTORS, HEADS, LOSSES, SAMPLERS, META_MODELS, METRICS]
    before = [set(registry.names()) for registry in registries]
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry.names()) - names:
            registry.remove(name)
