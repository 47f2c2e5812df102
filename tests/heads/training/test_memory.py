"""Blocks that are freed are kept: taking one again costs no page faults."""

import subprocess
import sys

import pytest

from tests.ser import warm

STEPS = """
import resource
import torch
from ser.heads.training.memory import keep_freed_memory
def faults():
    torch.ones(64 << 18)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def again():
    for _ in range(20):  # until the heap has its shape
        before = faults()
    return faults() - before
print(again())
assert keep_freed_memory() and keep_freed_memory()
print(again())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_block_that_is_taken_again_is_not_faulted_in_again():
    command = [warm.folder() / "python", "-c", STEPS]
    usual, kept = map(int, subprocess.check_output(command).split())
    assert kept < 100 < usual
