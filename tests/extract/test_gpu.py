"""What runs where on a GPU; its streams are faked."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ser.extract import gpu
from ser.extract.encoder import Piece
from ser.extract.encoding import EncoderExtractor
from ser.extract.extractor import FeatureOptions


class Stream:
    """A stream that notes what is queued in it."""

    def __init__(self, events: list[str], name: str) -> None:
        self.events, self.name = events, name

    def record_event(self) -> str:
        self.events.append(f"{self.name}: recorded")
        return "done"

    def wait_event(self, event: str) -> None:
        self.events.append(f"{self.name}: waits until {event}")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the streams are given, in order."""
    queued: list[str] = []
    empty = torch.empty

    def pinned(shape: torch.Size, pin_memory: bool = False) -> Tensor:
        queued.append(f"pinned: {pin_memory}")
        return empty(shape)

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(queued, "model"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(queued, "copy"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch, "empty", pinned)
    return queued


def test_frames_are_copied_back_in_a_stream_of_their_own(events: list[str]) -> None:
    states = torch.arange(24, dtype=torch.bfloat16).view(2, 4, 3)
    pieces = [
        Piece(np.zeros(9), 3, slice(1, None)),
        Piece(np.zeros(9), 4, np.array([0, 3])),
    ]

    def run() -> Tensor:
        events.append("model: run")
        assert gpu._turn.locked()  # no other thread runs it
        return states

    first, second = gpu.kept_in_turn(run, pieces)
    assert first.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert second.tolist() == [[12, 13, 14], [21, 22, 23]]
    assert (first.dtype, second.dtype) == (np.float32, np.float32)
    order = ["model: run", "model: recorded", "copy: waits until done", "pinned: True"]
    assert events == order
    assert not gpu._turn.locked()


@pytest.mark.parametrize(("device", "at_once"), [("cpu", 1), ("cuda:1", gpu.AT_ONCE)])
def test_a_gpu_has_several_batches_at_once(device: str, at_once: int) -> None:
    encoder = SimpleNamespace(
        device=torch.device(device), item_shape=(1,), batches_at_once=1, eval=lambda: encoder
    )

    class Fake(EncoderExtractor):
        def build_encoder(self, device: str, trained: bool = False) -> Any:
            return encoder

    extractor = Fake(FeatureOptions.model_validate({"kind": "fake"}))
    extractor.load(device)
    assert extractor.batches_at_once == at_once


def test_an_error_of_the_model_leaves_the_turn_to_others() -> None:
    def run() -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            gpu.kept_in_turn(run, [])
