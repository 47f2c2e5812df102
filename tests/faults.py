"""kill -9 at random moments: nothing valid is lost, and the same command then finishes.

    python -m tests.faults --rounds 50
    python -m tests.faults --only "stack fit" --rounds 200 --seed 3

For each scenario:

1. Prepare a folder, and run the command undisturbed in a copy of it; its duration and its result
   are the reference.
2. Every round, in a fresh copy: start the command, kill it after a random share of that time, and
   read the folder. Each value that was valid before must be valid, as before or as the undisturbed
   run leaves it.
3. Run the same command again: it must finish with the result of the undisturbed run, and leave no
   temporary file.

A command runs in a forked child of this process, which has imported everything and computed
nothing: so a round costs no start of Python, and libraries with threads are started in the child.
"""

import multiprocessing
import os
import random
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from bench.report import Row, arguments, show, temporary_folder

FORK = multiprocessing.get_context("fork")
MODULES = ("tests.faults_runs", "tests.faults_cache")  # each has SCENARIOS and PRELOAD
State = Mapping[str, Any]  # by name, a value to compare of everything that is valid


@dataclass(frozen=True)
class Scenario:
    """A command to kill.

    Attributes:
        name: its name in the table.
        prepare: fills an empty folder with the input of the command.
        command: runs the command in the folder; an exception is a failure.
        state: reads what is valid in the folder, checksums included, without what is absent.
        leftovers: glob patterns of files that may not exist after the second run.
    """

    name: str
    prepare: Callable[[Path], None]
    command: Callable[[Path], None]
    state: Callable[[Path], State]
    leftovers: Sequence[str] = ("**/.*.part", "run/**/*.lock", "**/.*.checkpoint*", "**/.*.old")


@dataclass
class Outcome:
    """The result of the rounds of one scenario; `wrong` has a sentence for each failure."""

    kills: int = 0  # rounds in which the command was still running
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--only", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    scenarios = {scenario.name: scenario for scenario in load_scenarios()}
    chosen = args.only or list(scenarios)
    unknown = sorted(set(chosen) - set(scenarios))
    if unknown:
        parser.error(f"no scenario {unknown[0]!r}; there are {', '.join(scenarios)}")
    rounds = min(args.rounds, 3) if args.quick else args.rounds
    rows: list[Row] = []
    wrong: list[str] = []
    with temporary_folder(args) as folder:
        for name in chosen:
            place = folder.resolve() / name.replace(" ", "-")
            outcome = run(scenarios[name], place, rounds, random.Random(f"{args.seed} {name}"))
            wrong += [f"{name}: {sentence}" for sentence in outcome.wrong]
            rows += [
                Row(f"{name}: kills", outcome.kills, f"of {rounds}"),
                Row(f"{name}: wrong", len(outcome.wrong), f"of {rounds}"),
            ]
    show(args, {"kill -9": rows}, *wrong)
    return min(len(wrong), 1)


def load_scenarios() -> list[Scenario]:
    """Return the scenarios of all modules, and import what their commands need."""
    modules = [import_module(name) for name in MODULES]
    for name in (name for module in modules for name in module.PRELOAD):
        import_module(name)
    return [scenario for module in modules for scenario in module.SCENARIOS]


def run(scenario: Scenario, folder: Path, rounds: int, rng: random.Random) -> Outcome:
    """Kill a scenario's command `rounds` times."""
    folder.mkdir(parents=True)
    template, work = folder / "template", folder / "work"
    template.mkdir()
    in_child(lambda: scenario.prepare(template))
    before = in_child(lambda: scenario.state(template))
    shutil.copytree(template, work, symlinks=True)
    started = time.monotonic()
    in_child(lambda: scenario.command(work))
    seconds = time.monotonic() - started
    after = in_child(lambda: scenario.state(work))
    outcome = Outcome()
    for number in range(rounds):
        shutil.rmtree(work)
        shutil.copytree(template, work, symlinks=True)
        moment = rng.uniform(0, seconds)
        outcome.kills += killed_after(moment, lambda: scenario.command(work))
        problem = _problem(scenario, work, before, after)
        if problem:
            outcome.wrong.append(f"round {number + 1}, killed after {moment:.3f} s: {problem}")
    shutil.rmtree(folder)
    return outcome


def _problem(scenario: Scenario, work: Path, before: State, after: State) -> str:
    """Return what is wrong after a kill, or after the command was run again; "" for nothing."""
    try:
        state = in_child(lambda: scenario.state(work))
        for name, value in before.items():
            if state.get(name) not in (value, after.get(name, value)):
                return f"{name} was valid before the kill and is not after it"
        in_child(lambda: scenario.command(work))
        state = in_child(lambda: scenario.state(work))
    except ChildError as error:
        return str(error).strip()
    for name in after:
        if state.get(name) != after[name]:
            return f"{name} differs from that of an undisturbed run"
    left = [str(p.relative_to(work)) for pattern in scenario.leftovers for p in work.glob(pattern)]
    return f"left behind: {', '.join(left)}" if left else ""


class ChildError(Exception):
    """A child that failed; the message is its traceback."""


def in_child(function: Callable[[], object]) -> Any:
    """Call a function in a forked child and return what it returns; raises `ChildError`."""
    process, answer = _forked(function)
    try:
        done, value = answer.recv()
    except EOFError:
        raise ChildError("the child died") from None
    finally:
        process.join()
    if not done:
        raise ChildError(value)
    return value


def killed_after(seconds: float, function: Callable[[], object]) -> bool:
    """Call a function in a forked child and kill it; return whether it was still running."""
    process, _ = _forked(function)
    time.sleep(seconds)
    running = process.is_alive()
    process.kill()
    process.join()
    return running


def _forked(function: Callable[[], object]) -> tuple[ForkProcess, Connection]:
    """Start a child; return it, and the end of a pipe that gets (done, value or traceback)."""
    answer, writing = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_answer, args=(function, writing))
    process.start()
    writing.close()
    return process, answer


def _answer(function: Callable[[], object], writing: Connection) -> None:
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    try:
        writing.send((True, function()))
    except BaseException:
        writing.send((False, traceback.format_exc()))


if __name__ == "__main__":
    raise SystemExit(main())
