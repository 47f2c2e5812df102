import subprocess
import sys

import pytest
import torch

from ser.extract.kinds.ctranslate2_weights import read_whisper_encoder
from ser.extract.kinds.whisper import WhisperOptions
from ser.extract.kinds.whisper_encoder import WhisperEncoder
from ser.extract.kinds.whisper_layers import SelfAttention
from tests.extract.factories import ctranslate2_whisper


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 3000, 80), (3, 42, 80)])
def test_states_are_those_of_transformers_to_the_last_bit(dtype, shape):
    folder = ctranslate2_whisper(None)
    options = WhisperOptions(kind="whisper", model=str(folder))
    mels = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = (
        WhisperEncoder(options, folder, "all", read_whisper_encoder(folder, trained).to(dtype))
        for trained in (False, True)
    )
    assert (ours.layers, ours.item_shape) == (theirs.layers, theirs.item_shape)
    assert (ours.model.dtype, ours.device) == (theirs.model.dtype, theirs.device)
    with torch.inference_mode():
        for a, b in zip(ours.encode(mels), theirs.encode(mels), strict=True):
            assert a.dtype == dtype
            assert torch.equal(a, b)


def refuse(*_):
    raise AssertionError("a layer that no frame needs ran")


@pytest.mark.parametrize(
    ("policy", "top"), [(0, 0), (1, 1), (-2, 1), ("mean:0:2", 1), (-1, 2), ("sum:-2:", 2)]
)
def test_layers_above_those_of_the_frames_do_not_run(policy, top):
    folder = ctranslate2_whisper(None)
    options = WhisperOptions(kind="whisper", model=str(folder))
    mels = torch.randn(2, 42, 80, generator=torch.Generator().manual_seed(0))
    encoder = WhisperEncoder(options, folder, policy, read_whisper_encoder(folder, False))
    assert encoder.layers == 2
    with torch.inference_mode():
        frames = encoder.chosen(encoder.encode(mels))
        for layer in encoder.model.layers[top:]:
            layer.forward = refuse
        assert torch.equal(encoder.run(mels, None), frames)
    if top:
        encoder.model.layers[top - 1].forward = refuse
        with pytest.raises(AssertionError, match="no frame needs"):
            encoder.run(mels, None)


def test_dimensions_must_divide_into_heads():
    with pytest.raises(ValueError, match="10 dimensions do not divide into 4 heads"):
        SelfAttention(10, 4)


def test_frames_need_neither_transformers_nor_the_compiler():
    """They take 3 and 1 CPU seconds to import, more than a prediction."""
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from ser.extract.kinds.whisper import WhisperOptions\n"
        "from ser.extract.kinds.whisper_models import load_whisper\n"
        "options = WhisperOptions(kind='whisper', model='m', window='trim')\n"
        "encoder = load_whisper(options, Path(sys.argv[1]), 'cpu', 'all').eval()\n"
        "assert encoder.frames(encoder.prepare(np.ones(320, np.float32)))[0].shape[0] == 1\n"
        "print({'transformers', 'torch._dynamo', 'sympy', 'scipy', 'sklearn'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, ctranslate2_whisper(None)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
