"""Which devices the workers are given, from lists as drivers print them."""

from unittest import mock

import pytest

from ser.corpus.errors import UserError
from ser.engines import devices
from ser.engines.devices import uuids
from ser.engines.workers import environments

WHOLE = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-8f6d14e9-6e6e-4a64-ac26-2a1ea1d2f3a0)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-0b0e1f6c-1a52-9d9c-3f8d-1f2e4c8f9a11)
"""
DIVIDED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-6a0e2a3b-71c4-4c5e-8c11-3e0f43c25b0d)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-77777777-71c4-4c5e-8c11-3e0f43c25b0d)
  MIG 7g.40gb     Device  0: (UUID: MIG-GPU-77777777-71c4-4c5e-8c11-3e0f43c25b0d/0/0)
"""
ONE, TWO = uuids(WHOLE)


def gpus_of(device, listed):
    """Return the GPUs of a device where the driver prints this list."""
    with mock.patch.object(devices, "list_gpus", lambda: listed):
        return devices.gpus_of(device)


@pytest.fixture
def counted(monkeypatch):
    """Return a function that sets how many devices PyTorch counts, and what is visible."""
    torch = pytest.importorskip("torch")

    def count(devices, visible=None):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)

    return count


def test_of_a_divided_gpu_only_its_parts_are_listed():
    assert (ONE[:12], TWO[:12]) == ("GPU-8f6d14e9", "GPU-0b0e1f6c")
    assert uuids(DIVIDED) == [
        "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
        "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb",
        "GPU-6a0e2a3b-71c4-4c5e-8c11-3e0f43c25b0d",
        "MIG-GPU-77777777-71c4-4c5e-8c11-3e0f43c25b0d/0/0",
    ]
    assert uuids(DIVIDED.splitlines()[0]) == ["GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"]


@pytest.mark.parametrize(
    "listed",
    [
        "",
        "No devices found.\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
        "Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error\n",
        "GPU 0: NVIDIA H100 (UUID: Unknown Error)\n",
        "\x00\xff(UUID: GPU-",
    ],
)
def test_lists_without_a_gpu(listed, counted):
    assert uuids(listed) == []
    counted(2)
    assert gpus_of("cuda", listed) == ["0", "1"]  # PyTorch has some


def test_a_gpu_that_fails_is_not_counted(counted):
    failed = WHOLE + "Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error\n"
    counted(2)
    assert gpus_of("cuda", failed) == [ONE, TWO]


def test_workers_are_bound_to_devices_by_uuid(counted):
    counted(2)
    assert gpus_of("cuda", WHOLE) == [ONE, TWO]
    assert gpus_of("cuda:1", WHOLE) == [TWO]
    assert (gpus_of("cpu", WHOLE), gpus_of("mps", WHOLE)) == ([], [])
    given = [e["CUDA_VISIBLE_DEVICES"] for e in environments(3, gpus_of("cuda", WHOLE))]
    assert given == [ONE, TWO, ONE]
    counted(1)  # of divided GPUs PyTorch counts one part
    assert gpus_of("cuda", DIVIDED) == uuids(DIVIDED)


def test_devices_that_are_made_visible_are_taken_as_they_are_named(counted):
    counted(2, "4, GPU-9f")
    assert gpus_of("cuda", WHOLE) == ["4", "GPU-9f"]
    counted(1, "3,-1,2")  # CUDA ends at the first that is none
    assert gpus_of("cuda", WHOLE) == ["3"]
    counted(1, "MIG-c6d4,MIG-cba6,MIG-c6d4")
    assert gpus_of("cuda", DIVIDED) == ["MIG-c6d4", "MIG-cba6"]
    counted(0, "")
    with pytest.raises(UserError, match=r"^--device cuda: no GPU is visible; use"):
        gpus_of("cuda", WHOLE)


def test_without_the_driver_s_list_they_are_numbered(counted, monkeypatch):
    counted(2)
    monkeypatch.setattr(devices, "COMMAND", ("no-such-command",))
    assert devices.gpus_of("cuda") == ["0", "1"]
    monkeypatch.setattr(devices, "COMMAND", ("false",))
    assert devices.gpus_of("cuda") == ["0", "1"]
    counted(3)
    assert gpus_of("cuda", WHOLE) == ["0", "1", "2"]
    with pytest.raises(UserError, match=r"^--device cuda:3: there is no such GPU; the last one is"):
        gpus_of("cuda:3", WHOLE)
    counted(0)
    with pytest.raises(UserError, match=r"^--device cuda: no GPU is visible; use"):
        gpus_of("cuda", WHOLE)
