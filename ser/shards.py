"""Many workers on one feature: processes of this machine; `ser.cluster` has those of a cluster.

1. Cut the corpus into four shards a worker. Batches are planned over the whole corpus, so the rows
   are the same bits whoever computes them, in whatever order.
2. Tell a worker five plain values (file, overrides, features, device, shard); it reads the pipeline
   and loads the model itself, and answers with the fields of its reports.
3. Run a shard again when its worker dies: lost is what it had not committed, 20 s at the most.
4. Say a mistake of the user's once, and stop the others; what they have finished is kept.

A shard costs a start of Python, a look at every file's header and a load of the model, so more
shards are dearer, and fewer leave workers idle at the end.
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
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.errors import UserError

if TYPE_CHECKING:
    from extract.loop import Report
    from extract.run import Job

SHARDS_PER_WORKER = 4
ATTEMPTS = 3  # at one shard, when workers die
POLL_SECONDS = 0.05
STOP_SECONDS = 30.0  # for a worker to finish its batch and commit
Results = Generator[tuple[int, dict[str, Any]], None, None]


def extract_with_jobs(
    pipeline_path: Path,
    overrides: Sequence[str],
    names: Sequence[str],
    jobs: int,
    device: str = "auto",
) -> "list[Report]":
    """Extract one feature, or those of one pass, with `jobs` processes of this machine.

    With CUDA, worker i computes on GPU i mod count; each has its share of the cores unless
    OMP_NUM_THREADS is set. Raises `UserError` for what `extract` does, and when the workers of one
    shard die three times.
    """
    from extract.extractor import choose_device
    from extract.run import extract_together, specify

    work = read_jobs(pipeline_path, overrides, names)
    for job in work:
        specify(job)  # weights are fetched once, and a wrong name costs no worker
    missing = count_missing(work)
    if not missing:
        return extract_together(work, "cpu")
    device = choose_device(device)
    count = min(missing, SHARDS_PER_WORKER * jobs)
    task = (str(pipeline_path.resolve()), list(overrides), list(names), device)
    environments = _environments(jobs, device)
    return run_shards(work, count, lambda shards: _processes(task, count, shards, environments))


def read_jobs(pipeline: str | Path, overrides: Sequence[str], names: Sequence[str]) -> "list[Job]":
    """Read a pipeline file and return the extraction of each named feature."""
    from ser.pipeline import Pipeline
    from ser.run import feature_job, read_manifest

    loaded = Pipeline.load(pipeline, overrides)
    manifest = read_manifest(loaded)
    return [feature_job(loaded, manifest, name) for name in names]


def count_missing(work: "Sequence[Job]") -> int:
    """Return how many utterances are to be extracted, of the job that lacks most."""
    from ser.forecast import forecast

    return max(forecast(job)[0] for job in work)


def run_shard(
    pipeline: str,
    overrides: Sequence[str],
    names: Sequence[str],
    device: str,
    shard: Sequence[int],
) -> dict[str, Any]:
    """Extract one shard (i, n); the body of every worker.

    Returns {"reports": the fields of each feature's}, or {"refused": the sentence of a
    `UserError`}, or {"raised": the traceback of anything else}.
    """
    from extract.run import extract_together

    try:
        work = read_jobs(pipeline, overrides, names)
        reports = extract_together(work, device, (shard[0], shard[1]))
    except UserError as error:
        return {"refused": str(error)}
    except Exception:
        return {"raised": traceback.format_exc()}
    return {"reports": [asdict(report) for report in reports]}


def run_shards(
    work: "Sequence[Job]", count: int, engine: Callable[[Sequence[int]], Results]
) -> "list[Report]":
    """Run shards 0 to count-1 on an engine, which yields the number and result of each.

    Raises `UserError` for the first shard that is refused, `RuntimeError` for one that raised.
    """
    from tqdm import tqdm

    started = time.monotonic()
    finished: dict[int, list[dict[str, Any]]] = {}
    label = " + ".join(job.name for job in work)
    with (
        tqdm(total=count, desc=label, unit="shard", disable=None) as bar,
        closing(engine(range(count))) as results,
    ):
        for i, result in results:
            if "raised" in result:
                raise RuntimeError(f"shard {i}/{count}:\n{result['raised']}")
            if "refused" in result:
                raise UserError(result["refused"])
            finished[i] = result["reports"]
            bar.update()
    seconds = time.monotonic() - started
    return [
        _merged(job, parts, seconds) for job, *parts in zip(work, *finished.values(), strict=True)
    ]


def _merged(job: "Job", parts: Sequence[Mapping[str, Any]], seconds: float) -> "Report":
    from extract.loop import Report

    merged = Report(job.name, parts[0]["folder"], seconds=seconds)
    merged.cached = min(part["cached"] for part in parts)  # as the first one to look saw it
    for part in parts:
        merged.failed |= part["failed"]
        merged.overflowed += part["overflowed"]
        merged.model_seconds += part["model_seconds"]
        merged.audio_seconds += part["audio_seconds"]
    # not the sum: what a worker committed before it died is in no report
    merged.extracted = len(job.manifest) - merged.cached - len(merged.failed)
    return merged


def given_up(names: Sequence[str], i: int, count: int, reason: str) -> UserError:
    """Return the error for a shard whose workers keep dying."""
    return UserError(
        f"features.{names[0]}: the worker of shard {i}/{count} died {ATTEMPTS} times ({reason}); "
        f"run `ser extract {' '.join(names)} --shard {i}/{count}` to see it alone, or take fewer "
        "workers if the memory is short."
    )


class _Worker:
    """Run one shard in a process of its own.

    It stops when its standard input closes: when told to, and when this process is gone. A session
    of its own keeps the terminal's Ctrl-C from it, which would interrupt its last commit.
    """

    def __init__(
        self, task: Sequence[Any], shard: tuple[int, int], environment: Mapping[str, str]
    ) -> None:
        self.shard = shard
        # -P: a folder of the user's called `cache` must not be taken for the package
        command = [sys.executable, "-P", "-m", "ser.workers", json.dumps([*task, shard])]
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  closed in `end`
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=self._err,
            env=environment,
            start_new_session=True,
        )

    def result(self) -> dict[str, Any] | None:
        """Return what `run_shard` did; None when the process died instead."""
        if self.process.returncode:
            return None
        self._out.seek(0)
        result: dict[str, Any] = json.load(self._out)
        return result

    def last_words(self) -> str:
        """Return how it ended."""
        self._err.seek(0)
        lines = self._err.read().decode(errors="replace").strip().splitlines()
        return f"exit code {self.process.returncode}" + (f": {lines[-1]}" if lines else "")

    def stop(self) -> None:
        """Ask it to stop, if it still runs."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        """Wait until it has stopped, not for ever."""
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self._err.close()


def _processes(
    task: Sequence[Any],
    count: int,
    shards: Iterable[int],
    environments: Sequence[Mapping[str, str]],
) -> Results:
    """Yield the number and result of each shard; one process an environment runs at a time."""
    waiting = deque(shards)
    deaths = dict.fromkeys(waiting, 0)
    running: dict[int, _Worker] = {}
    try:
        while waiting or running:
            for slot, environment in enumerate(environments):
                if waiting and slot not in running:
                    running[slot] = _Worker(task, (waiting.popleft(), count), environment)
            time.sleep(POLL_SECONDS)
            for slot in [s for s, worker in running.items() if worker.process.poll() is not None]:
                worker = running[slot]
                i, result = worker.shard[0], worker.result()
                if result is None:
                    deaths[i] += 1
                    if deaths[i] == ATTEMPTS:
                        raise given_up(task[2], i, count, worker.last_words())
                    waiting.append(i)
                _stop([running.pop(slot)])
                if result is not None:
                    yield i, result
    finally:
        _stop(list(running.values()))


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.end()


def _environments(jobs: int, device: str) -> list[dict[str, str]]:
    """Return the environment of each worker: its share of the cores, and its GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    shared = {"OMP_NUM_THREADS": str(max(1, (cores or 1) // jobs))} | dict(os.environ)
    if device != "cuda":
        return [shared] * jobs
    import torch

    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = torch.cuda.device_count()
    gpus = (said.split(",") if said else [str(i) for i in range(known)])[:known]
    if not gpus:
        raise UserError("--device cuda: no GPU is visible here; give `--device cpu`.")
    return [shared | {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(jobs)]


def interrupt_once(number: int, frame: object) -> None:
    """Interrupt as Ctrl-C does, so that the writer commits; a second one would interrupt that."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Run one shard, told in JSON and answering in JSON; stop when standard input closes."""

    def watch() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, interrupt_once)
    threading.Thread(target=watch, daemon=True).start()
    with redirect_stdout(sys.stderr):
        result = run_shard(*json.loads(sys.argv[1]))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
