"""kill -9 at random moments: nothing valid is lost, and the same command then finishes.

    python -m bench.faults --rounds 50
    python -m bench.faults --only "stack fit" --rounds 200 --seed 3

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

import json
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, util
from pathlib import Path
from typing import Any

from bench.report import arguments, machine

MODULES = ("bench.faults_runs", "bench.faults_cache")  # each has SCENARIOS and PRELOAD
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

    name: str
    seconds: float  # of the undisturbed run
    kills: int = 0  # rounds in which the command was still running
    right: int = 0
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    scenarios = load_scenarios()
    unknown = sorted(set(given.only) - {s.name for s in scenarios})
    if unknown:
        parser.error(
            f"no scenario {unknown[0]!r}; there are {', '.join(s.name for s in scenarios)}"
        )
    rounds = min(given.rounds, 3) if given.quick else given.rounds
    print(f"{'command':<20} {'seconds':>8} {'kills':>6} {'right after':>12} {'wrong':>6}")
    rows, wrong = [], 0
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for scenario in scenarios:
            if given.only and scenario.name not in given.only:
                continue
            place = Path(folder).resolve() / scenario.name.replace(" ", "-")
            outcome = run(scenario, place, rounds, random.Random(f"{given.seed} {scenario.name}"))
            print(
                f"{outcome.name:<20} {outcome.seconds:>8.2f} {outcome.kills:>6} "
                f"{outcome.right:>12} {len(outcome.wrong):>6}",
                flush=True,
            )
            for sentence in outcome.wrong:
                print(f"  {sentence}")
            wrong += len(outcome.wrong)
            rows += [
                {"name": f"{outcome.name}: kills", "value": outcome.kills, "unit": "kills"},
                {"name": f"{outcome.name}: wrong", "value": len(outcome.wrong), "unit": "rounds"},
            ]
    if given.json:
        given.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    return min(wrong, 1)


def load_scenarios() -> list[Scenario]:
    """Return the scenarios of all modules, and import what their commands need."""
    scenarios: list[Scenario] = []
    for name in MODULES:
        if util.find_spec(name) is not None:
            module = import_module(name)
            for needed in module.PRELOAD:
                import_module(needed)
            scenarios += module.SCENARIOS
    return scenarios


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
    outcome = Outcome(scenario.name, time.monotonic() - started)
    after = in_child(lambda: scenario.state(work))
    for number in range(rounds):
        shutil.rmtree(work)
        shutil.copytree(template, work, symlinks=True)
        moment = rng.uniform(0, outcome.seconds)
        outcome.kills += killed_after(moment, lambda: scenario.command(work))
        problem = _problem(scenario, work, before, after)
        if problem:
            outcome.wrong.append(f"round {number + 1}, killed after {moment:.3f} s: {problem}")
        else:
            outcome.right += 1
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
    reading, writing = os.pipe()
    pid = _fork(function, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise ChildError("the child died")
    done, value = pickle.loads(data)
    if not done:
        raise ChildError(value)
    return value


def killed_after(seconds: float, function: Callable[[], object]) -> bool:
    """Call a function in a forked child and kill it; return whether it was still running."""
    reading, writing = os.pipe()
    pid = _fork(function, writing)
    os.close(writing)
    time.sleep(seconds)
    running = os.waitpid(pid, os.WNOHANG) == (0, 0)
    if running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(reading)
    return running


def _fork(function: Callable[[], object], writing: int) -> int:
    """Fork a child that writes (done, value or traceback) to a pipe; return its process id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        answer = True, function()
    except BaseException:
        answer = False, traceback.format_exc()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
    finally:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
