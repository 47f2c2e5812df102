"""SIGTERM in a process of its own: when it interrupts, and what it waits for."""

import subprocess
import sys

import pytest

BEGIN = """
import os, signal, time
from ser.corpus import termination
from ser.corpus.termination import catch_sigterm, deferred, is_requested, raise_if_requested
catch_sigterm()
def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
"""
SCRIPTS = {
    "at once, and a second one is ignored": """
try:
    terminate()
except KeyboardInterrupt:
    terminate()
    print("committed", is_requested())
""",
    "after the step": """
try:
    with deferred():
        terminate()
        terminate()
        print("committed", is_requested())
        raise_if_requested()
        print("one more step")
except KeyboardInterrupt:
    terminate()
""",
    "at the end of the last step": """
try:
    with deferred():
        terminate()
    print("more work")
except KeyboardInterrupt:
    print("committed", is_requested())
""",
    "when a step takes too long": """
termination.GRACE = 0.05
try:
    with deferred():
        terminate()
        time.sleep(60)
except KeyboardInterrupt:
    terminate()
    print("committed", is_requested())
""",
    "saving has no limit": """
termination.GRACE = 0.1
try:
    with deferred():
        terminate()
        assert is_requested()
        time.sleep(0.3)
        print("committed", is_requested())
except KeyboardInterrupt:
    pass
""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_sigterm_interrupts(name):
    command = [sys.executable, "-c", BEGIN + SCRIPTS[name]]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "committed True\n", "")
