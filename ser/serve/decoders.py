"""The processes that decode what clients send; see `ser.serve.decode`.

They are started once and take clip after clip. A process whose clip is no longer wanted (the time
limit, a client that disconnected, a server that stops) is killed; the next clip starts another.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ser.corpus.errors import AudioError
from ser.serve.decode import ENVELOPE, WAV, Job, Reply
from ser.serve.limits import Refused

COUNT = 2


@dataclass(frozen=True)
class Decoded:
    """A clip as mono float32 wav at 16 kHz, its seconds, its envelope `(points, 2)`, and notes."""

    wav: Path
    seconds: float
    envelope: np.ndarray
    notes: tuple[str, ...] = ()


class Decoders:
    """At most `COUNT` processes; used within one event loop."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(COUNT)
        self._idle: list[Process] = []
        self._busy: set[Process] = set()

    async def decode(self, path: Path, folder: Path, max_seconds: float, left: float) -> Decoded:
        """Decode a file into a folder within `left` s.

        Raises `AudioError` for a file that is not audio, `Refused` for a clip beyond the limits.
        Cancelling it kills the process.
        """
        job = Job(str(path), str(folder), max_seconds, left)
        async with self._free:
            reply = await self._run(job)
        if reply.log:
            logging.getLogger("ser.serve").error("a clip could not be decoded: %s", reply.log)
        if reply.status == 422:
            raise AudioError(reply.error)
        if reply.status != 200:
            raise Refused(reply.status, reply.error)
        envelope = np.load(folder / ENVELOPE, allow_pickle=False)
        return Decoded(folder / WAV, reply.seconds, envelope, tuple(reply.notes))

    async def _run(self, job: Job) -> Reply:
        self._idle = [process for process in self._idle if process.returncode is None]
        process = self._idle.pop() if self._idle else await _start()
        assert process.stdin
        assert process.stdout
        answer = b""
        self._busy.add(process)
        try:
            process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            answer = await process.stdout.readline()
        finally:
            if answer.endswith(b"\n"):
                self._idle.append(process)
            else:
                kill(process)
                await process.wait()  # until then it may write into the folder
            self._busy.discard(process)
        if not answer.endswith(b"\n"):
            return Reply(status=422, error="it cannot be decoded", log=f"the decoder died on {job}")
        return Reply(**json.loads(answer))

    def kill(self) -> None:
        """Kill all processes; any thread may call this."""
        for process in [*self._idle, *self._busy]:
            kill(process)

    async def close(self) -> None:
        """Kill all processes and wait until they have ended."""
        self.kill()
        await asyncio.gather(*(process.wait() for process in [*self._idle, *self._busy]))


def kill(process: Process) -> None:
    """Kill a process, which may have ended already.

    `Process.kill` would first poll its status, which is then lost to the event loop.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


async def _start() -> Process:
    """Start a process with the module path of this one, and without its working folder."""
    words = [sys.executable, "-P", "-m", "ser.serve.decode"]
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return await asyncio.create_subprocess_exec(
        *words,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env=os.environ | threads | {"PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for the server, which ends them
    )
