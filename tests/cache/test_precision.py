"""Stored frames are those that were given, to the configured precision."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ser.cache.precision import encode, values

FINITE = st.floats(-60_000, 60_000, width=32)
FRAMES = hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=FINITE)


@settings(deadline=None)
@given(FRAMES)
def test_int8_is_within_half_a_step_of_every_channel(frames):
    encoded = encode(frames, "int8")
    assert encoded.data.dtype == np.int8
    step = np.abs(frames).max(axis=0) / 127
    assert (np.abs(values(encoded) - frames) <= step * 0.5001 + 1e-37).all()


def test_int8_keeps_zeros_and_the_largest_value_of_a_channel():
    frames = np.array([[0, -3.0, 5], [0, 1.5, 127]], np.float32)
    encoded = encode(frames, "int8")
    assert encoded.data.tolist() == [[0, -127, 5], [0, 64, 127]]
    np.testing.assert_array_equal(encoded.scale, np.array([0, 3 / 127, 1], np.float32))


@settings(deadline=None)
@given(FRAMES)
def test_float16_is_what_numpy_would_make_of_it(frames):
    encoded = encode(frames, "float16")
    assert encoded.scale is None
    assert encoded.data.tobytes() == frames.astype("<f2").tobytes()


def test_float16_without_torch_has_the_same_bits():
    program = """
import sys, numpy as np
from ser.cache.precision import encode
frames = np.random.default_rng(0).standard_normal((50, 7), np.float32) * 1e-6
plain = encode(frames, "float16").data.tobytes()
assert "torch" not in sys.modules
import torch
assert encode(frames, "float16").data.tobytes() == plain
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_float16_cannot_hold_is_float32():
    assert encode(np.array([[65_504.0]], np.float32), "float16").data.dtype == np.float16
    for value in (65_520.0, -65_520.0):
        assert encode(np.array([[1.0, value]], np.float32), "float16").data.dtype == np.float32


def test_every_finite_float16_is_kept():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)][None]
    assert encode(finite, "float16").data.tobytes() == finite.tobytes()


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(precision, value):
    with pytest.raises(ValueError, match="the features hold NaN or infinite values"):
        encode(np.array([[1.0, value]], np.float32), precision)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ">f4"])
def test_other_dtypes_and_read_only_arrays_are_taken(dtype):
    frames = np.arange(6, dtype=dtype).reshape(2, 3)
    frames.flags.writeable = False
    for precision in ("float16", "float32", "int8"):
        encoded = encode(frames, precision)
        numbers = values(encoded)
        np.testing.assert_allclose(numbers, frames, atol=0.02)
        assert encoded.data.dtype.newbyteorder("=") == np.dtype(precision)


def test_frames_that_are_not_contiguous_are_stored_in_order():
    frames = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    assert encode(frames, "float16").data.tolist() == [[0, 2], [4, 6], [8, 10]]
