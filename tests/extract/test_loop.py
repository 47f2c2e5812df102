"""The model's inputs are prepared while it runs, a few batches ahead; batches may run at once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Barrier, Event
from typing import Any, ClassVar

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor, extractor, parse_options
from ser.extract.loop import READY
from ser.extract.run import extract
from tests.extract.factories import checksums, job, opened, write_corpus

WAIT = 20.0  # seconds, of a thread for another
LENGTHS = {f"u{i:02}": round((0.3 + 0.1 * i) * 16_000) for i in range(6)}


@extractor("steps")
class Steps(Extractor):
    """Notes which clips it prepared and computed; each batch is one clip."""

    item_shape, frame_rate = (1,), 50.0
    events: ClassVar[list[tuple[str, int]]] = []
    prepared: ClassVar[dict[int, Event]] = {}
    waits: ClassVar[bool] = False  # each batch for the preparation of the next
    barrier: ClassVar[Barrier | None] = None
    odd: ClassVar[dict[int, BaseException]] = {}  # by length of clip
    fits: ClassVar[int] = 100
    meet: ClassVar[Callable[[], object]] = int  # other threads that prepare

    def load(self, device: str) -> None:
        self.batches_at_once = 1 if Steps.barrier is None else Steps.barrier.parties

    def prepare(self, source: np.ndarray) -> int:
        Steps.meet()
        Steps.events.append(("prepare", len(source)))
        Steps.prepared.setdefault(len(source), Event()).set()
        if len(source) in Steps.odd:
            raise Steps.odd[len(source)]
        return len(source)

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.compute([self.prepare(wave) for wave in batch])

    def compute(self, batch: Sequence[int]) -> list[np.ndarray]:
        if len(batch) > Steps.fits:
            raise MemoryError
        if Steps.barrier is not None:
            Steps.barrier.wait(WAIT)
        following = [n for n in LENGTHS.values() if n > max(batch)]
        if Steps.waits and following:
            assert Steps.prepared.setdefault(following[0], Event()).wait(WAIT)
        Steps.events += [("compute", length) for length in batch]
        return [np.full((2, 1), length, np.float32) for length in batch]


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh: dict[str, Any] = {"events": [], "prepared": {}, "odd": {}, "waits": False}
    for name, value in (fresh | {"barrier": None, "fits": 100}).items():
        monkeypatch.setattr(Steps, name, value)


def extracted(folder: Path, budget: float | None = 1.0, device: str = "cpu") -> Any:
    folder.mkdir(exist_ok=True)
    manifest = write_corpus(folder / "audio", clips=len(LENGTHS))
    work = job(folder, manifest, kind="steps")
    return work, extract(work, device, frame_budget=budget)


def test_the_next_batch_is_prepared_while_the_model_runs_and_few_are(tmp_path: Path) -> None:
    Steps.waits = True
    _, report = extracted(tmp_path)
    assert (report.extracted, report.failed) == (6, {})
    lengths = list(LENGTHS.values())
    for kind in ("prepare", "compute"):
        assert [length for event, length in Steps.events if event == kind] == lengths
    for done, length in enumerate(lengths):
        before = Steps.events[: Steps.events.index(("compute", length))]
        assert len([event for event, _ in before if event == "prepare"]) <= done + 1 + READY


@pytest.mark.parametrize("at_once", [2, 3])
def test_batches_run_at_once_and_are_written_in_order(tmp_path: Path, at_once: int) -> None:
    Steps.barrier = Barrier(at_once)  # broken, and an error, unless so many compute at a time
    work, report = extracted(tmp_path)
    assert (report.extracted, report.failed) == (6, {})
    assert opened(work).index().sort("row")["utterance"].to_list() == list(LENGTHS)
    prints = checksums(work)
    Steps.barrier = None
    again, _ = extracted(tmp_path / "again")
    assert checksums(again) == prints


def test_several_threads_prepare_batches_for_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = Barrier(3)  # broken, and an error, unless so many prepare at a time
    monkeypatch.setattr(Steps, "prepares_at_once", True)
    monkeypatch.setattr(Steps, "meet", lambda: barrier.wait(WAIT))
    monkeypatch.setattr("ser.extract.loop.cores", lambda: 3)
    work, report = extracted(tmp_path, device="cuda")
    assert (report.extracted, report.failed) == (6, {})
    assert opened(work).index().sort("row")["utterance"].to_list() == list(LENGTHS)


def test_a_clip_that_cannot_be_prepared_fails_alone(tmp_path: Path) -> None:
    Steps.odd = {LENGTHS["u01"]: ValueError("no speech"), LENGTHS["u04"]: KeyError("pitch")}
    work, report = extracted(tmp_path, budget=None)  # one batch
    assert report.failed == {"u01": "ValueError: no speech", "u04": "KeyError: 'pitch'"}
    assert dict(opened(work).failed().select("utterance", "error").iter_rows()) == report.failed
    assert Steps.events.count(("compute", LENGTHS["u00"])) == 1
    assert report.extracted == 4


def test_half_a_batch_is_not_prepared_again(tmp_path: Path) -> None:
    Steps.fits = 2
    _, report = extracted(tmp_path, budget=None)
    assert report.extracted == 6
    assert sorted(Steps.events) == sorted(
        (kind, length) for kind in ("prepare", "compute") for length in LENGTHS.values()
    )


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (UserError("the server is gone; start it."), "the server is gone; start it."),
        (SystemExit(3), r"ended the program \(SystemExit: 3\); raise ValueError for an input"),
        (ModuleNotFoundError("No module named 'librosa'"), "cannot be run .*; install what it"),
    ],
)
def test_what_no_other_clip_can_help_ends_the_extraction(
    tmp_path: Path, error: BaseException, problem: str
) -> None:
    Steps.odd = {LENGTHS["u03"]: error}
    with pytest.raises(UserError, match=problem):
        extracted(tmp_path)


def test_prepared_inputs_are_the_inputs_unless_a_class_says_otherwise() -> None:
    class Plain(Extractor):
        item_shape, frame_rate = (1,), 50.0

        def load(self, device: str) -> None:
            pass

        def extract(self, batch: Any) -> Any:
            return [np.ones((1, 1), np.float32) * len(wave) for wave in batch]

    plain = Plain(parse_options({"kind": "steps"}))
    wave = np.zeros(3, np.float32)
    assert plain.prepare(wave) is wave
    np.testing.assert_array_equal(plain.compute([wave]), [[[3.0]]])
