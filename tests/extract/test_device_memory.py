"""Planned batches are divided where a GPU could not hold them; the memory is faked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.extract import device_memory
from ser.extract.device_memory import fitted, frame_bytes, free_bytes, plan
from ser.extract.extractor import Extractor, extractor, parse_options
from ser.extract.run import extract
from tests.extract.factories import job, opened, write_corpus

SECOND = 16_000  # samples: 50 frames


@extractor("gpu_fake")
class Fake(Extractor):
    """Takes 1,000 bytes of the GPU for a frame, and notes the clips of each batch."""

    item_shape, frame_rate = (1,), 50.0
    calls: ClassVar[list[int]] = []
    error: ClassVar[Exception | None] = None
    taken: ClassVar[int] = 0  # bytes, by the last batch

    def load(self, device: str) -> None:
        pass

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        if Fake.error is not None:
            raise Fake.error
        Fake.calls.append(len(batch))
        Fake.taken = round(1_000 * 50 * sum(map(len, batch)) / SECOND)
        return [np.ones((1, 1), np.float32) for _ in batch]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that sets the free bytes of the GPU."""

    def peak(device: str, work: Callable[[], Any]) -> int:
        assert device == "cuda:1"
        work()
        return Fake.taken

    def set_free(count: int) -> None:
        monkeypatch.setattr(device_memory, "free_bytes", lambda device, processes: count)

    monkeypatch.setattr(device_memory, "peak_bytes", peak)
    monkeypatch.setattr(Fake, "error", None)
    Fake.calls.clear()
    return set_free


def fake() -> Fake:
    return Fake(parse_options({"kind": "gpu_fake"}))


class Keyed(Fake):
    """Takes clips of like sizes together only; `cost` is a frame for each 20 ms."""

    def batch_key(self, size: int) -> int:
        return size % 4

    def cost(self, size: int) -> float:
        return size / 320


@settings(deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=6), st.integers(0, 400_000), max_size=40),
    st.floats(1, 5_000),
)
def test_plan(sizes: dict[str, int], budget: float) -> None:
    keyed = Keyed(parse_options({"kind": "gpu_fake"}))
    batches = plan(keyed, sizes, budget)
    assert sorted(u for batch in batches for u in batch) == sorted(sizes)
    for batch in batches:
        own = [sizes[u] for u in batch]
        assert len({size % 4 for size in own}) == 1
        assert len(batch) == 1 or sum(map(keyed.cost, own)) <= budget * (1 + 1e-9)
        assert own == sorted(own)
    assert plan(keyed, dict(reversed(sizes.items())), budget) == batches


def test_plan_fills_its_batches() -> None:
    sizes = dict.fromkeys("abcde", SECOND)  # 50 frames
    assert plan(fake(), sizes, 100.0) == [["a", "b"], ["c", "d"], ["e"]]


SIZES = {f"u{i}": 2 * SECOND for i in range(8)}  # 800 frames


def test_batches_are_halved_until_they_fit(
    free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(device_memory.FRAMES, "cuda", 800)
    batches = plan(fake(), SIZES, 800)
    assert len(batches) == 1
    # 0.8 of the free memory holds a batch of 800, 400, 200 frames; one clip has 100
    for count, expected in ((1_000_000, [8]), (999_999, [4] * 2), (250_000, [2] * 4), (0, [1] * 8)):
        free(count)
        parts = fitted(fake(), batches, SIZES, "cuda:1")
        assert [len(part) for part in parts] == expected
        assert [u for part in parts for u in part] == batches[0]


def test_a_cpu_and_transcripts_keep_their_batches(
    free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(0)
    batches = plan(fake(), SIZES, 200)
    assert fitted(fake(), batches, SIZES, "cpu") == batches
    monkeypatch.setattr(Fake, "gives", "transcripts")
    assert fitted(fake(), batches, SIZES, "cuda:1") == batches
    assert Fake.calls == []


def test_a_model_that_fails_its_trial_keeps_its_batches(
    free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(0)
    monkeypatch.setattr(Fake, "error", RuntimeError("CUDA out of memory"))
    assert frame_bytes(fake(), SECOND, "cuda:1") == 0
    assert fitted(fake(), [list(SIZES)], SIZES, "cuda:1") == [list(SIZES)]


def test_processes_that_share_a_gpu_take_their_part_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    shares: list[tuple[float, str]] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (700, 1_000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda share, device: shares.append((share, device)),
    )
    assert free_bytes("cuda:1", 1) == 700
    assert shares == []
    assert free_bytes("cuda:1", 2) == 400
    assert shares == [(0.5, "cuda:1")]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (300, 1_000))
    assert free_bytes("cuda:1", 2) == 300  # another program has the rest


def test_extraction_divides_its_batches(free: Callable[[int], None], tmp_path: Path) -> None:
    free(500_000)  # 400 frames, as 48,000 / 2^7 are 375
    manifest = write_corpus(tmp_path / "audio", clips=20)  # 15 to 60 frames, 750 in all
    work = job(tmp_path, manifest, kind="gpu_fake")
    report = extract(work, "cuda:1")
    assert (report.extracted, report.failed) == (20, {})
    assert len(opened(work).index()) == 20
    assert Fake.calls[:2] == [1, 1]  # the trial
    assert Fake.calls[2:] == [13, 7]
    Fake.calls.clear()
    extract(job(tmp_path, manifest, "other", kind="gpu_fake"), "cuda:1", frame_budget=750)
    assert Fake.calls == [20]  # as asked for
