"""Many workers on a Ray cluster: as `ser.workers`, on many machines.

1. Join a cluster or start one here; take one worker a GPU, or a CPU where there are none.
2. Ask every node that may work whether it sees this pipeline, corpus, cache and run, before any
   work.
3. Hand out the shards of an extraction, or the heads, as tasks; Ray runs a task of a lost worker or
   node again.

Tasks and not actors: a shard keeps nothing for the next one, and a task of a lost node moves to
another node, where an actor waits for a node with room and its calls fail meanwhile.
"""

import os
import re
import signal
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.remote import is_url
from corpus.errors import UserError
from ser.shards import SHARDS_PER_WORKER, count_missing, read_jobs, run_shards
from ser.workers import ATTEMPTS, STOP_SECONDS, Answer, Answers, Task, interrupt_once, run_body

if TYPE_CHECKING:
    from extract.loop import Report
    from heads.job import HeadsJob
    from heads.run import HeadReport
    from ser.training import Call

NODE_SECONDS = 120.0  # for a node to start a worker and look at its folders
OBJECT_STORE = 100 << 20  # bytes; reports go through Ray, frames go to the cache


def extract_with_ray(
    pipeline_path: Path,
    overrides: Sequence[str],
    names: Sequence[str],
    device: str = "auto",
    address: str | None = None,
) -> "list[Report]":
    """Extract one feature, or those of one pass, on a Ray cluster.

    `address` is "auto" or a URL (ray://host:10001) to join a cluster; None takes the one that this
    process is connected to, or else starts one here. Every node needs `ser` and the same paths.
    Raises `UserError` that names the node and the path where that is not so, for what `extract`
    does, and when the workers of one shard die three times.
    """
    from extract.run import extract_together, open_feature

    work = read_jobs(pipeline_path, overrides, names)
    missing = count_missing(work)
    if not missing:
        return extract_together(work, "cpu")
    path = pipeline_path.resolve()
    with _cluster(address):
        resource, workers = _resource(device)
        manifest = work[0].manifest.source
        _require_paths([path, manifest, work[0].audio], [work[0].cache], resource)
        count = min(missing, SHARDS_PER_WORKER * workers)
        told = (str(path), list(overrides), list(names), _device(resource))
        options = _options(path, resource)
        reports = run_shards(work, told, count, lambda tasks: run_on_ray(tasks, options))
    for job, report in zip(work, reports, strict=True):
        if report.failed:  # its lock does not reach across every network file system
            open_feature(job).record(report.failed)
    return reports


def train_with_ray(
    job: "HeadsJob",
    names: Sequence[str],
    call: "Call",
    address: str | None = None,
) -> "Iterator[HeadReport]":
    """Train heads on a Ray cluster, a task each; yield their reports as they are done.

    The job is that of the call's pipeline, `address` as for `extract_with_ray`. Raises `UserError`
    as that does, and for what `train_heads` does; a head whose workers die three times has failed.
    """
    from ser.training import report_current, reports_of

    left = yield from report_current(job, names, call.force)
    if not left:
        return
    path = call.pipeline.resolve()
    with _cluster(address):
        resource, _ = _resource(call.device)
        here = [cache.path / "feature.json" for cache in job.features.values() if not cache.remote]
        _require_paths([path, job.manifest.source, *here], [job.run], resource)
        there = replace(call, device=_device(resource))
        tasks = [there.task(name) for name in left]
        yield from reports_of(job, run_on_ray(tasks, _options(path, resource)))


def _ray() -> Any:
    return import_module("ray")  # heavy, and an extra


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        ray.init(address or "local", **options)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster lets us in ({_reason(error)}); start one with "
            "`ray start --head`, or set RAY_AUTH_MODE and RAY_AUTH_TOKEN as it has them."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _resource(device: str) -> tuple[str, int]:
    """Return what a worker needs one of, and how many of them the cluster has."""
    resources = _ray().cluster_resources()
    gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
    if device == "cuda" and not gpus:
        raise UserError("--device cuda: the Ray cluster has no GPU; give `--device cpu`.")
    return ("GPU", gpus) if gpus else ("CPU", max(1, int(resources.get("CPU", 0))))


def _device(resource: str) -> str:
    return "cuda" if resource == "GPU" else "cpu"


def _options(pipeline: Path, resource: str) -> dict[str, Any]:
    """Return what Ray is told of every task."""
    return {f"num_{resource.lower()}s": 1, "runtime_env": _environment(pipeline)}


def _environment(pipeline: Path) -> dict[str, Any]:
    """Return the variables that the pipeline names, for the workers to have as well."""
    text = pipeline.read_text(encoding="utf-8")
    named = re.findall(r"\$\{(\w+)\}", text)
    keys = ["OPENAI_API_KEY", *re.findall(r"\bkey: *([A-Z_][A-Z0-9_]*)", text)]  # of servers
    asked = [key for key in keys if "kind: llm" in text and key in os.environ]
    found = {name: os.environ[name] for name in [*named, *asked]}
    return {"env_vars": found} if found else {}


def _require_paths(
    read: Sequence[str | Path], written: Sequence[str | Path], resource: str
) -> None:
    """Check that every node which may work sees what is read here and the folders written to.

    A file written into such a folder and looked for on the nodes tells the same folder from another
    one of the same name. Storage with a URL is checked by whoever opens it.
    """
    wanted = {str(path): str(path) for path in read if Path(path).exists()}
    tokens = []
    try:
        for place in written:
            if is_url(place):
                continue
            Path(place).mkdir(parents=True, exist_ok=True)
            token = Path(place) / f".seen-{uuid.uuid4().hex[:8]}"
            token.touch()
            tokens.append(token)
            wanted[str(token)] = str(place)
        _look(wanted, resource)
    finally:
        for token in tokens:
            token.unlink()


def _look(wanted: Mapping[str, str], resource: str) -> None:
    """Look for files on every node that has the resource; `wanted` says what to call each."""
    ray = _ray()
    strategy = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0)(absent)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(resource)]
    asked = [
        task.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(list(wanted))
        for node in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        host = node["NodeManagerHostname"]
        try:
            lacking = ray.get(answer, timeout=NODE_SECONDS)
        except Exception as error:  # Ray's own, and what an import there may raise
            raise UserError(
                f"Ray node {host}: no worker can run there ({_reason(error)}); install the same "
                "`ser` on every node."
            ) from error
        if lacking is not None:
            raise UserError(
                f"Ray node {host}: {wanted[lacking]} is not there, or is not the same as here; "
                "mount it at the same path on every node (a cache can have a URL instead)."
            )


def absent(paths: Sequence[str]) -> str | None:
    """Return the first of the paths that is not on this machine."""
    return next((path for path in paths if not Path(path).exists()), None)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[-1] if lines else type(error).__name__).strip().rstrip(".")


def body_in_task(body: str, arguments: Sequence[Any]) -> tuple[str, Any]:
    """Run a task's function as a Ray task; here Ctrl-C comes from the terminal and from Ray."""
    signal.signal(signal.SIGINT, interrupt_once)
    return run_body(lambda event: None, body, arguments)


def run_on_ray(tasks: Iterable[Task], options: Mapping[str, Any]) -> Answers:
    """Run tasks; yield what becomes of each, in the order they are done. Events are not heard."""
    ray = _ray()
    # a process a task: an interrupt may leave one with half an import, which the next task of the
    # same process would find
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
