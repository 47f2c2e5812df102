"""Processes of this machine that run tasks: arguments as JSON, answers as JSON lines.

1. A task names a function and its plain arguments. It runs in a process of its own: if that dies
   the others go on, and its memory is freed when it ends.
2. What the function sends meanwhile is an `event`, what it returns is `done`; the sentence of a
   `UserError` is `refused`, what the machine refused is `stopped` (`ser.engines.machine`), the
   traceback of anything else `raised`.
3. A task whose process dies (kill -9, the kernel short of memory) is run again: it was `lost`;
   after three times it has `died`.
4. As many run at a time as there are slots, and their number may change meanwhile.

`ser.engines.cluster` gives the same answers from a cluster.

`multiprocessing` would not be shorter, as the end with a parent that is gone, the session that
Ctrl-C does not reach, the kept standard error and the second attempt would be ours all the same;
and its spawn runs the caller's main module again, which a notebook or a script without
`if __name__ == "__main__"` does not survive. In a `ProcessPoolExecutor` a process that dies ends
all tasks.
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

from ser.corpus.errors import StoppedError, UserError
from ser.corpus.machine import cores
from ser.corpus.termination import catch_sigterm
from ser.engines.machine import machine_problem

ATTEMPTS = 3  # at one task, when processes die
POLL_SECONDS = 0.05
STOP_SECONDS = 30.0  # for a worker to finish its batch and commit
Send = Callable[[object], None]


@dataclass(frozen=True)
class Task:
    """A function `package.module:function`, called with a `Send` and these plain arguments."""

    name: str
    body: str
    arguments: Sequence[object]


@dataclass(frozen=True)
class Answer:
    """The outcome of a task, or an event of it; for `lost` and `died` how its process ended."""

    task: Task
    kind: Literal["event", "done", "refused", "stopped", "raised", "lost", "died"]
    content: Any

    def require_no_error(self, work: str) -> None:
        """Raise what stopped the task; `work` names it where that is a bug."""
        if self.kind == "refused":
            raise UserError(self.content)
        if self.kind == "stopped":
            raise StoppedError(self.content)
        if self.kind == "raised":
            raise RuntimeError(f"{work}:\n{self.content}")


Answers = Generator[Answer, None, None]
Environment = Mapping[str, str]


def run_tasks(tasks: Iterable[Task], slots: Callable[[], Sequence[Environment]]) -> Answers:
    """Run tasks, one in each slot at a time, in the slot's environment; yield their answers.

    `slots` is called again and again; a task whose slot is gone runs to its end. Closing the
    generator stops the tasks that run.
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
                ended = worker.process.poll() is not None  # before reading: then no line is missed
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
    """A process that runs one task.

    It stops when its standard input closes: in `stop`, and when this process is gone. A session of
    its own keeps the terminal's Ctrl-C from it, which would interrupt its last commit.
    """

    def __init__(self, task: Task, environment: Environment) -> None:
        self.task, self.answered, self.last_words = task, False, ""
        # -P: a user's folder called `ser` must not be imported for the package
        call = json.dumps([task.body, list(task.arguments)])
        command = [sys.executable, "-P", "-m", "ser.engines.workers", call]
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
        """Yield the answers since the last call."""
        handle = self._out.fileno()  # not `read`: the process shares the position in the file
        new = os.pread(handle, os.fstat(handle).st_size - self._read, self._read)
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            kind, content = json.loads(line)
            self.answered = self.answered or kind != "event"
            yield Answer(self.task, kind, content)

    def stop(self) -> None:
        """Close its standard input, which stops it."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        """Wait until it has stopped, or kill it after `STOP_SECONDS`; keep its last words."""
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


def environments(jobs: int, gpus: Sequence[str]) -> list[Environment]:
    """Return the environment of each worker: its share of the cores, and one GPU, in turn."""
    # a share that the user has set takes precedence
    shared = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} | dict(os.environ)
    if not gpus:
        return [shared] * jobs
    return [shared | {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(jobs)]


def run_body(
    body: str, arguments: Sequence[object], send: Send = lambda event: None
) -> tuple[str, Any]:
    """Call a task's function; return the kind and the content of the answer."""
    module, _, name = body.partition(":")
    try:
        return "done", getattr(import_module(module), name)(send, *arguments)
    except Exception as error:
        problem = error if isinstance(error, UserError) else machine_problem(error, kept=True)
        if problem is None:
            return "raised", traceback.format_exc()
        return "stopped" if problem.exit_code == 1 else "refused", str(problem)


def main() -> None:
    """Run one task; stop when standard input closes."""

    def watch() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    catch_sigterm()
    threading.Thread(target=watch, daemon=True).start()
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to standard error

    def answer(kind: str, content: object) -> None:
        lines.write(json.dumps([kind, content]) + "\n")

    body, arguments = json.loads(sys.argv[1])
    answer(*run_body(body, arguments, lambda content: answer("event", content)))


if __name__ == "__main__":
    main()
