"""Tiny audio encoders of the true classes, each made once."""

from functools import cache
from pathlib import Path

from ser.synthetic.encoders import write_encoder
from tests.extract.factories import new_folder


@cache
def tiny_encoder(model_type: str) -> Path:
    import torch

    torch.manual_seed(0)
    folder = new_folder(f"tiny-{model_type}")
    write_encoder(model_type, folder, layers=2)
    return folder
