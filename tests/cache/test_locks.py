"""One writer at a time: the error of a second names the first, a dead one does not block."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ser.cache.locks import locked
from ser.corpus.atomic import host
from ser.corpus.errors import BusyError

HOLD = """
import sys
from pathlib import Path
from ser.cache.locks import locked
with locked(Path(sys.argv[1]), "it is being made"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=Path.cwd(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    return process


def test_the_error_of_a_second_names_the_owner_and_a_killed_owner_does_not_block(tmp_path):
    path = tmp_path / "a" / ".lock"
    owner = hold(path)
    since = json.loads(path.read_text())["since"]
    with pytest.raises(BusyError) as error, locked(path, "head 'a' is being trained"):
        pass
    assert str(error.value) == (
        f"head 'a' is being trained by process {owner.pid} on this machine ({host()}) since "
        f"{since}; wait until it has finished, or stop it, and run the command again."
    )
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    assert path.exists()  # and its process may be another one by now
    with locked(path, "it is being made"):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert not path.exists()


def test_it_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="no"), locked(tmp_path / "l", ""):
        raise ValueError("no")
    with locked(tmp_path / "l", ""):
        pass
    assert list(tmp_path.iterdir()) == []
