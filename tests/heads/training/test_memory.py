"""Blocks that are freed are kept: taking one again costs no page faults."""

import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import torch
from heads.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
def faults():
    torch.ones(64 << 18)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # until the heap has its shape
    before = faults()
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_block_that_is_taken_again_is_not_faulted_in_again():
    found = {
        how: int(subprocess.check_output([sys.executable, "-c", STEPS, how]))
        for how in ("keep", "usual")
    }
    assert found["keep"] < 100 < found["usual"]
