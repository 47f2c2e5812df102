"""The devices that models run on, by their names in torch."""

from ser.corpus.errors import UserError
from ser.extract.extractor import FeatureOptions


def device_type(device: str) -> str:
    """Return the type of a device, as `cuda` of `cuda:1`."""
    return device.partition(":")[0]


def require_gpu(options: FeatureOptions, device: str) -> None:
    """Raise `UserError` for quantized weights on any other device than an NVIDIA GPU."""
    if device_type(device) != "cuda":
        raise UserError(
            f"{options.pretrained}: `quantize: {options.quantization}` runs on an NVIDIA GPU only; "
            "extract with `--device cuda`, or leave `quantize` out."
        )


def require_device(device: str) -> None:
    """Raise `UserError` for a GPU that torch does not see."""
    kind, _, number = device.partition(":")
    if kind not in ("cuda", "mps"):
        return
    import torch

    count = torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())
    if int(number or 0) >= count:
        raise UserError(f"--device {device}: torch sees no such GPU; use `--device cpu`.")


def choose_device(device: str) -> str:
    """Turn `auto` into `cuda` where there is a GPU, else `cpu`."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
