"""Many workers on a Ray cluster: as `ser.engines.workers`, on many machines.

1. Join a cluster or start one on this machine; take one worker for each GPU, or for each CPU where
   there are no GPUs.
2. Check that every node which may work sees this pipeline, corpus, cache and run.
3. Submit the shards of an extraction, or the heads, as tasks; Ray runs a task again when its worker
   or node is lost.

Tasks and not actors: a shard keeps nothing for the next one, and a task of a lost node moves to
another node, whereas an actor waits for a free node and its calls fail meanwhile.
"""

import os
import re
import signal
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.cache.urls import is_url
from ser.corpus.errors import UserError
from ser.engines.shards import (
    SHARDS_PER_WORKER,
    count_missing,
    finished_reports,
    read_jobs,
    shard_tasks,
)
from ser.engines.workers import ATTEMPTS, STOP_SECONDS, Answer, Answers, Task, run_body

if TYPE_CHECKING:
    from ser.engines.heads import Training
    from ser.extract.loop import Report
    from ser.heads.job import HeadsJob
    from ser.heads.run import HeadReport
    from ser.pipeline.file import Origin

NODE_SECONDS = 120.0  # for a node to start a worker and look at its folders
OBJECT_STORE = 100 << 20  # bytes; reports go through Ray, frames go to the cache


def extract_with_ray(
    origin: "Origin", names: Sequence[str], device: str = "auto", address: str | None = None
) -> "list[Report]":
    """Extract one feature, or those of one pass, on a Ray cluster.

    `address` is "auto" or a URL (ray://host:10001) to join a cluster; None takes the one that this
    process is connected to, or else starts one here. Every node needs `ser` and the same paths.
    Raises `UserError` that names the node and the path where that is not so, for what `extract`
    does, and when the workers of one shard die three times.
    """
    from ser.extract.run import extract_together

    work = read_jobs(origin, names)
    missing = count_missing(work)
    if not missing:
        return extract_together(work, device)
    path = Path(origin.path)
    with _cluster(address):
        device, workers = _workers(device)
        manifest = work[0].manifest.source
        _require_paths([path, manifest, work[0].audio], [work[0].cache], device)
        count = min(missing, SHARDS_PER_WORKER * workers)
        tasks = shard_tasks(origin, names, device, count)
        return finished_reports(work, run_on_ray(tasks, _options(path, device)), count)


def train_with_ray(
    job: "HeadsJob", names: Sequence[str], training: "Training", address: str | None = None
) -> "Iterator[HeadReport]":
    """Train heads on a Ray cluster, a task each; yield their reports as they are done.

    The job is that of the training's pipeline, `address` as for `extract_with_ray`. Raises
    `UserError` as that does, and as `train_heads` does; a head whose workers die three times has
    failed.
    """
    from ser.engines.heads import RunTraining, report_current, reports_of

    run = yield from report_current(RunTraining(job, names, training))
    if not run.names:
        return
    path = Path(training.origin.path)
    with _cluster(address):
        device, _ = _workers(training.device)
        local = [cache.path / "feature.json" for cache in job.features.values() if not cache.remote]
        _require_paths([path, job.manifest.source, *local], [job.run], device)
        run = run.on(device)
        yield from reports_of([run], run_on_ray(run.tasks(), _options(path, device)))


def _ray() -> Any:
    return import_module("ray")  # heavy, and an extra


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, object] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        ray.init(address or "local", **options)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise UserError(
            f"--address {address}: the Ray cluster cannot be joined ({_reason(error)}); start one "
            "with `ray start --head`, or set RAY_AUTH_MODE and RAY_AUTH_TOKEN to the cluster's."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _workers(device: str) -> tuple[str, int]:
    """Return the device of every worker, cuda or cpu, and how many the cluster has."""
    resources = _ray().cluster_resources()
    gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
    if device == "cuda" and not gpus:
        raise UserError("--device cuda: the Ray cluster has no GPU; use `--device cpu`.")
    return ("cuda", gpus) if gpus else ("cpu", max(1, int(resources.get("CPU", 0))))


def _options(pipeline: Path, device: str) -> dict[str, object]:
    """Return Ray's options for every task."""
    needs = "num_gpus" if device == "cuda" else "num_cpus"
    return {needs: 1, "runtime_env": _environment(pipeline)}


def _environment(pipeline: Path) -> dict[str, object]:
    """Return the environment variables that the pipeline names, for the workers."""
    text = pipeline.read_text(encoding="utf-8")
    named = re.findall(r"\$\{(\w+)\}", text)
    keys = ["OPENAI_API_KEY", *re.findall(r"\bkey: *([A-Z_][A-Z0-9_]*)", text)]  # of servers
    secrets = keys if "kind: llm" in text else []
    values = {name: os.environ[name] for name in [*named, *secrets] if name in os.environ}
    return {"env_vars": values} if values else {}


def _require_paths(read: Sequence[str | Path], written: Sequence[str | Path], device: str) -> None:
    """Check that every node which may work sees the files that are read and the folders written to.

    A file is written into each such folder and looked for on the nodes, which distinguishes the
    folder from another one of the same name. Storage with a URL is checked when it is opened.
    """
    wanted = {str(path): str(path) for path in read if Path(path).exists()}
    with ExitStack() as tokens:
        for place in written:
            if not is_url(place):
                Path(place).mkdir(parents=True, exist_ok=True)
                token = Path(place) / f".seen-{uuid.uuid4().hex[:8]}"
                token.touch()
                tokens.callback(token.unlink)
                wanted[str(token)] = str(place)
        _look(wanted, device)


def _look(wanted: Mapping[str, str], device: str) -> None:
    """Look for files on every node that may work; `wanted` maps each to its name."""
    ray, resource = _ray(), "GPU" if device == "cuda" else "CPU"
    strategy = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0)(absent)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(resource)]
    answers = [
        task.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(list(wanted))
        for node in nodes
    ]
    for node, answer in zip(nodes, answers, strict=True):
        host = node["NodeManagerHostname"]
        try:
            lacking = ray.get(answer, timeout=NODE_SECONDS)
        except Exception as error:  # Ray's own, and those of an import on the node
            raise UserError(
                f"Ray node {host}: no worker can run on it ({_reason(error)}); install the same "
                "version of `ser` on every node."
            ) from error
        if lacking is not None:
            raise UserError(
                f"Ray node {host}: {wanted[lacking]} is missing or differs from this machine's; "
                "mount it at the same path on every node (a cache can have a URL instead)."
            )


def absent(paths: Sequence[str]) -> str | None:
    """Return the first of the paths that does not exist on this machine."""
    return next((path for path in paths if not Path(path).exists()), None)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[-1] if lines else type(error).__name__).strip().rstrip(".")


def interrupt_once(number: int, frame: object) -> None:
    """Interrupt, so that the writer commits; a second Ctrl-C would interrupt that."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def body_in_task(body: str, arguments: Sequence[object]) -> tuple[str, object]:
    """Run a task's function as a Ray task; both the terminal and Ray send it Ctrl-C."""
    signal.signal(signal.SIGINT, interrupt_once)
    return run_body(body, arguments)


def run_on_ray(tasks: Iterable[Task], options: Mapping[str, object]) -> Answers:
    """Run tasks; yield their outcomes as they are done. Events are not passed on."""
    ray = _ray()
    # a process for each task: an interrupt may leave half an import, which the next task of the
    # same process would meet
    remote = ray.remote(max_calls=1, max_retries=ATTEMPTS - 1, **options)(body_in_task)
    running = {remote.remote(task.body, list(task.arguments)): task for task in tasks}
    try:
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            task = running.pop(done)
            try:
                kind, content = ray.get(done)
            except ray.exceptions.RayError as error:
                kind, content = "died", _reason(error)
            yield Answer(task, kind, content)
    finally:
        for left in running:
            ray.cancel(left)  # an interrupt, so that the writer commits
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=STOP_SECONDS)
