import pytest
import torch

from ser.corpus.errors import UserError
from ser.extract.device_memory import default_frame_budget
from ser.extract.devices import choose_device, device_type, require_device


def test_given_device_is_not_second_guessed() -> None:
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("auto") in ("cpu", "cuda")


def test_a_gpu_that_torch_does_not_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cpu", "auto", "cuda", "cuda:0"):
        require_device(device)
    for device in ("cuda:1", "mps"):
        with pytest.raises(UserError) as error:
            require_device(device)
        assert str(error.value) == (
            f"--device {device}: torch sees no such GPU; use `--device cpu`."
        )


@pytest.mark.parametrize(
    ("device", "kind", "frames"),
    [
        ("cpu", "cpu", 6_000),
        ("cuda:1", "cuda", 48_000),
        ("cuda", "cuda", 48_000),
        ("mps", "mps", 6_000),
    ],
)
def test_a_device_is_looked_up_by_its_type(device: str, kind: str, frames: int) -> None:
    assert device_type(device) == kind
    assert default_frame_budget(device) == frames
