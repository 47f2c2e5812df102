"""A batch that does not fit the memory; the GPU is faked."""

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ser.extract.batch import robustly
from ser.extract.extractor import Extractor, FeatureOptions


class Narrow(Extractor):
    """Has no memory for two inputs, which it notices amid a run."""

    item_shape, frame_rate = (1,), 50.0
    states: "weakref.ref[np.ndarray] | None" = None  # of the last run that failed

    def load(self, device: str) -> None:
        pass

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        states = np.zeros(len(batch))
        if len(batch) > 1:
            self.states = weakref.ref(states)
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [np.ones((1, 1), np.float32)]


def test_a_batch_that_does_not_fit_is_freed_before_its_halves_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    extractor, failed = Narrow(FeatureOptions.model_validate({"kind": "narrow"})), dict[str, str]()
    freed: list[bool] = []

    def empty_cache() -> None:  # it frees nothing that is still referenced
        assert extractor.states is not None
        freed.append(extractor.states() is None)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    inputs: list[Any] = [np.zeros(400, np.float32)] * 4
    results = dict(robustly(extractor, ["a", "b", "c", "d"], inputs, failed))
    assert (list(results), failed) == (["a", "b", "c", "d"], {})
    assert freed == [True] * 3
