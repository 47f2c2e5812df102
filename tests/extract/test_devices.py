import pytest

from ser.extract.device_memory import default_frame_budget
from ser.extract.devices import choose_device, device_type


def test_given_device_is_not_second_guessed() -> None:
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("auto") in ("cpu", "cuda")


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
