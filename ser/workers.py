"""Processes of this machine that run tasks: told in JSON, answering in JSON lines.

1. A task names a function and its plain arguments. It runs in a process of its own, so that one
   that dies takes nobody along, and its memory is given back when it ends.
2. What the function tells meanwhile is an `event`, what it returns is `done`; the sentence of a
   `UserError` is `refused`, the traceback of anything else `raised`.
3. A task whose process dies (kill -9, the kernel short of memory) is run again: it was `lost`;
   after three times it has `died`.
4. As many run at a time as there are slots, and these may become more or fewer meanwhile.

`ser.cluster` gives the same answers from a cluster.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from corpus.errors import UserError

ATTEMPTS = 3  # at one task, when processes die
POLL_SECONDS = 0.05
STOP_SECONDS = 30.0  # for a worker to finish its batch and commit
Tell = Callable[[Any], None]


@dataclass(frozen=True)
class Task:
    """Name a function `package.module:function`, called with a `Tell` and these plain arguments."""

    name: str
    body: str
    arguments: Sequence[Any]


@dataclass(frozen=True)
class Answer:
    """Say what became of a task, or what it told; for `lost` and `died` how the process ended."""

    task: Task
    kind: Literal["event", "done", "refused", "raised", "lost", "died"]
    content: Any


Answers = Generator[Answer, None, None]
Environment = Mapping[str, str]


def run_tasks(tasks: Iterable[Task], slots: Callable[[], Sequence[Environment]]) -> Answers:
    """Run tasks, one in each slot at a time, in the slot's environment; yield what they answer.

    Slots are asked for again and again; a task in one that is gone runs to its end. Closing the
    generator stops what runs.
    """
    waiting = deque(tasks)
    deaths: Counter[str] = Counter()
    running: dict[int, _Worker] = {}
    try:
        while waiting or running:
            for slot, environment in enumerate(slots()):
                if waiting and slot not in running:
                    running[slot] = _Worker(waiting.popleft(), environment)
            time.sleep(POLL_SECONDS)
            for slot, worker in list(running.items()):
                ended = worker.process.poll() is not None  # asked first: then no line is missed
                yield from worker.answers()
                if not ended:
                    continue
                _stop([running.pop(slot)])
                if not worker.answered:
                    deaths[worker.task.name] += 1
                    last = deaths[worker.task.name] == ATTEMPTS
                    if not last:
                        waiting.append(worker.task)
                    yield Answer(worker.task, "died" if last else "lost", worker.last_words)
    finally:
        _stop(list(running.values()))


class _Worker:
    """Run one task in a process of its own.

    It stops when its standard input closes: when told to, and when this process is gone. A session
    of its own keeps the terminal's Ctrl-C from it, which would interrupt its last commit.
    """

    def __init__(self, task: Task, environment: Environment) -> None:
        self.task, self.answered, self.last_words = task, False, ""
        # -P: a folder of the user's called `cache` must not be taken for the package
        told = json.dumps([task.body, list(task.arguments)])
        command = [sys.executable, "-P", "-m", "ser.workers", told]
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  closed in `end`
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self._read = 0
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=self._err,
            env=environment,
            start_new_session=True,
        )

    def answers(self) -> Iterator[Answer]:
        """Yield what it has answered since it was last asked."""
        handle = self._out.fileno()  # not `read`: its place in the file is the process's too
        new = os.pread(handle, os.fstat(handle).st_size - self._read, self._read)
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            kind, content = json.loads(line)
            self.answered = self.answered or kind != "event"
            yield Answer(self.task, kind, content)

    def stop(self) -> None:
        """Ask it to stop, if it still runs."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        """Wait until it has stopped, not for ever, and keep its last words."""
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._err.seek(0)
        lines = self._err.read().decode(errors="replace").strip().splitlines()
        self.last_words = f"exit code {self.process.returncode}" + "".join(
            f": {line}" for line in lines[-1:]
        )
        self._out.close()
        self._err.close()


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.end()


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Name the GPUs as CUDA_VISIBLE_DEVICES does; raises `UserError` where there is none."""
    import torch

    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = torch.cuda.device_count()
    gpus = (said.split(",") if said else [str(i) for i in range(known)])[:known]
    if not gpus:
        raise UserError("--device cuda: no GPU is visible here; give `--device cpu`.")
    return gpus


def environments(jobs: int, gpus: Sequence[str]) -> list[Environment]:
    """Return the environment of each worker: its share of the cores, and its GPU in turn."""
    # a share that the user has set himself goes before ours
    shared = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} | dict(os.environ)
    if not gpus:
        return [shared] * jobs
    return [shared | {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(jobs)]


def run_body(tell: Tell, body: str, arguments: Sequence[Any]) -> tuple[str, Any]:
    """Call a task's function; return the kind and the content of the answer."""
    module, _, name = body.partition(":")
    try:
        return "done", getattr(import_module(module), name)(tell, *arguments)
    except UserError as error:
        return "refused", str(error)
    except Exception:
        return "raised", traceback.format_exc()


def interrupt_once(number: int, frame: object) -> None:
    """Interrupt as Ctrl-C does, so that the writer commits; a second one would interrupt that."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Run one task; stop when standard input closes."""

    def watch() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, interrupt_once)
    threading.Thread(target=watch, daemon=True).start()
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(kind: str, content: Any) -> None:
        lines.write(json.dumps([kind, content]) + "\n")

    body, arguments = json.loads(sys.argv[1])
    answer(*run_body(lambda content: answer("event", content), body, arguments))


if __name__ == "__main__":
    main()
