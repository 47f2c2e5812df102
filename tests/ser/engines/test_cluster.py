import os
import sys
import threading

import pytest

import ser.engines.cluster
from ser.corpus.errors import UserError
from ser.engines.cluster import OBJECT_STORE, _environment, _look, extract_with_ray, train_with_ray
from ser.engines.heads import Training
from ser.heads.run import train_heads
from tests.ser import fragile_heads
from tests.ser.fragile import (
    CLIPS,
    REFUSED,
    alone,
    checksums,
    counts,
    make_fragile,
    opened,
    origin,
    wait_for,
    written_once,
)

ray = pytest.importorskip("ray")
NODE = {"num_cpus": 1, "object_store_memory": OBJECT_STORE}


@pytest.fixture(scope="module")
def cluster():
    """Start a node of two cores on this machine; a test that loses a node adds another."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112  Ray would kill workers
    from ray.cluster_utils import Cluster

    head = NODE | {"num_cpus": 2, "include_dashboard": False}
    ray_cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(ray_cluster.address, log_to_driver=False, logging_level="error")
    yield ray_cluster
    ray.shutdown()
    ray_cluster.shutdown()


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # which a plugin adds to
    monkeypatch.setattr(ser.engines.cluster, "SHARDS_PER_WORKER", 1)
    return make_fragile(tmp_path)


@pytest.mark.slow
def test_killed_worker_costs_nothing_and_a_second_run_does_nothing(cluster, pipeline, monkeypatch):
    monkeypatch.setenv("SER_TEST_CACHE", "cache")
    pipeline.write_text(pipeline.read_text().replace("cache: cache", "cache: ${SER_TEST_CACHE}"))
    (pipeline.parent / "audio" / "u3.wav").unlink()
    (pipeline.parent / "kill").touch()
    [first] = extract_with_ray(origin(pipeline), ["one"], "cpu")
    assert not (pipeline.parent / "kill").exists()
    assert len(list(pipeline.parent.glob("*.pid"))) == 3  # two shards, one of them twice
    assert counts(first) == (0, CLIPS - 1, 1)
    assert checksums(pipeline) == alone(pipeline)
    assert written_once(pipeline)
    assert opened(pipeline).failed()["utterance"].to_list() == ["u3"]
    assert not list((pipeline.parent / "cache").glob(".*"))  # what the nodes were asked to find
    workers = set(pipeline.parent.glob("*.pid"))

    [second] = extract_with_ray(origin(pipeline), ["one"], "cpu")
    assert counts(second) == (CLIPS - 1, 0, 1)
    assert set(pipeline.parent.glob("*.pid")) == workers


@pytest.mark.slow
def test_shard_that_kills_every_worker_is_named(cluster, pipeline):
    (pipeline.parent / "exit").touch()
    with pytest.raises(UserError, match=r"^features\.one: the worker of shard [01]/2 died 3 times"):
        extract_with_ray(origin(pipeline), ["one"], "cpu")


def test_a_mistake_is_reported_once(cluster, pipeline):
    (pipeline.parent / "refuse").touch()
    with pytest.raises(UserError) as raised:
        extract_with_ray(origin(pipeline), ["one"], "auto")
    assert str(raised.value) == REFUSED


def test_path_that_a_node_lacks_is_named(cluster, tmp_path):
    with pytest.raises(UserError) as raised:
        _look({str(tmp_path): "the corpus", str(tmp_path / "token"): "the cache"}, "CPU")
    host = ray.nodes()[0]["NodeManagerHostname"]
    assert str(raised.value) == (
        f"Ray node {host}: the cache is missing or differs from this machine's; mount it at the "
        "same path on every node (a cache can have a URL instead)."
    )


def test_cluster_without_a_gpu_is_one_message(cluster, pipeline):
    with pytest.raises(UserError) as raised:
        extract_with_ray(origin(pipeline), ["one"], "cuda")
    assert str(raised.value) == ("--device cuda: the Ray cluster has no GPU; use `--device cpu`.")


def test_variables_of_the_pipeline_go_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SER_TEST_CORPUS", "/data")
    (tmp_path / "p.yaml").write_text("corpus: {manifest: '${SER_TEST_CORPUS}/m.csv'}")
    assert _environment(tmp_path / "p.yaml") == {"env_vars": {"SER_TEST_CORPUS": "/data"}}
    (tmp_path / "p.yaml").write_text("corpus: {manifest: m.csv}")
    assert _environment(tmp_path / "p.yaml") == {}
    monkeypatch.setenv("MY_KEY", "secret")
    (tmp_path / "p.yaml").write_text("features:\n  a: {kind: llm, key: MY_KEY, of: words}\n")
    assert _environment(tmp_path / "p.yaml") == {"env_vars": {"MY_KEY": "secret"}}


@pytest.mark.parametrize("killed", [(), pytest.param(("two",), marks=pytest.mark.slow)])
def test_heads_are_trained_to_the_bits_of_one_process_and_a_killed_one_resumes(
    cluster, tmp_path, monkeypatch, killed
):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = fragile_heads.make_fragile_heads(tmp_path)
    names = ("one", *killed)
    local = fragile_heads.job_of(path, "run=here")
    assert [report.done for report in train_heads(local, names)] == ["trained"] * len(names)
    fragile_heads.tell(path, "kill", *killed)
    how = Training(origin(path), device="cpu")
    reports = train_with_ray(fragile_heads.job_of(path), names, how)
    assert sorted((r.name, r.done) for r in reports) == [(name, "trained") for name in names]
    assert fragile_heads.logits(path, "run", names) == fragile_heads.logits(path, "here", names)
    assert not list((path.parent / "run").glob(".seen*"))
    again = train_with_ray(fragile_heads.job_of(path), names, how)
    assert [report.done for report in again] == ["current"] * len(names)


@pytest.mark.slow
def test_head_that_kills_every_worker_fails(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = fragile_heads.make_fragile_heads(tmp_path)
    fragile_heads.tell(path, "exit", "three")
    how = Training(origin(path), device="cpu")
    (report,) = train_with_ray(fragile_heads.job_of(path), ("three",), how)
    assert report.done == "failed"
    assert report.error.startswith("its worker died 3 times (")


@pytest.mark.slow
def test_lost_node_loses_only_its_shard(cluster, pipeline):
    folder = pipeline.parent
    hold = folder / "hold"
    hold.touch()
    node = cluster.add_node(**NODE)

    def lose() -> None:
        try:
            wait_for(lambda: len(list(folder.glob("*.held"))) == 3, "no three workers began")
            cluster.remove_node(node, allow_graceful=False)
        finally:
            hold.unlink()

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    [report] = extract_with_ray(origin(pipeline), ["one"], "cpu")
    thread.join()
    assert not thread.is_alive() and node not in cluster.worker_nodes
    assert counts(report) == (0, CLIPS, 0)
    assert checksums(pipeline) == alone(pipeline)
