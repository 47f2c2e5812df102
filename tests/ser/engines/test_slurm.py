"""Jobs of SLURM, for which submitit's local ones and those of this process stand in."""

import sys
from functools import partialmethod

import pytest

from ser.corpus.errors import UserError
from ser.engines import slurm
from ser.engines.heads import Training
from ser.engines.slurm import extract_with_slurm, train_with_slurm
from tests.ser import fragile_heads, warm
from tests.ser.factories import ser
from tests.ser.fragile import CLIPS, REFUSED, alone, checksums, counts, make_fragile, opened, origin

submitit = pytest.importorskip("submitit")


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # which a plugin adds to
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(slurm, "CLUSTER", "local")
    return make_fragile(tmp_path)


@pytest.mark.slow
def test_a_killed_job_costs_nothing_and_a_second_run_submits_none(pipeline, monkeypatch):
    auto, python = submitit.AutoExecutor, str(warm.folder() / "python")  # the slow test: plain ones
    monkeypatch.setattr(auto, "__init__", partialmethod(auto.__init__, local_python=python))
    (pipeline.parent / "audio" / "u3.wav").unlink()
    (pipeline.parent / "kill").touch()
    [first] = extract_with_slurm(origin(pipeline), ["one"], "cpu", 2, {"partition": "cpu"})
    assert not (pipeline.parent / "kill").exists()
    assert counts(first) == (0, CLIPS - 1, 1)
    assert checksums(pipeline) == alone(pipeline)
    assert opened(pipeline).failed()["utterance"].to_list() == ["u3"]
    jobs = set((pipeline.parent / "run" / "slurm").iterdir())
    assert jobs

    [second] = extract_with_slurm(origin(pipeline), ["one"], "cpu", 2, {})
    assert counts(second) == (CLIPS - 1, 0, 1)
    assert set((pipeline.parent / "run" / "slurm").iterdir()) == jobs


@pytest.mark.slow
def test_a_shard_that_kills_every_job_is_named(pipeline):
    (pipeline.parent / "exit").touch()
    with pytest.raises(UserError, match=r"^features\.one: the worker of shard 0/1 died 3 times"):
        extract_with_slurm(origin(pipeline), ["one"], "cpu", 1, {})


def test_a_mistake_is_reported_once(pipeline, monkeypatch):
    monkeypatch.setattr(slurm, "CLUSTER", "debug")
    (pipeline.parent / "refuse").touch()
    with pytest.raises(UserError) as raised:
        extract_with_slurm(origin(pipeline), ["one"], "cpu", 2, {})
    assert str(raised.value) == REFUSED


def test_heads_are_trained_in_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(slurm, "CLUSTER", "debug")
    path = fragile_heads.make_fragile_heads(tmp_path)
    fragile_heads.tell(path, "break", "two")
    how = Training(origin(path), device="cpu")
    reports = train_with_slurm(fragile_heads.job_of(path), ("one", "two"), how, 1, {})
    assert sorted((r.name, r.done) for r in reports) == [("one", "trained"), ("two", "failed")]
    again = train_with_slurm(fragile_heads.job_of(path), ("one",), how, None, {})
    assert [report.done for report in again] == ["current"]


def test_options_are_checked_before_any_work(pipeline, monkeypatch):
    with pytest.raises(UserError) as raised:
        extract_with_slurm(origin(pipeline), ["one"], "cpu", 1, {"pertition": "gpu"})
    assert str(raised.value) == (
        "--slurm pertition: there is no such option of submitit; did you mean 'partition'?"
    )
    with pytest.raises(UserError, match=r"^--slurm setup: .*; choose from account, array_"):
        extract_with_slurm(origin(pipeline), ["one"], "cpu", 1, {"setup": "ls"})
    monkeypatch.setattr(slurm, "CLUSTER", "slurm")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        UserError, match=r"^--engine slurm: SLURM is not available here .*sbatch is\."
    ):
        extract_with_slurm(origin(pipeline), ["one"], "cpu", 1, {})


def test_submitit_has_every_option(tmp_path):
    executor = submitit.AutoExecutor(tmp_path, cluster="debug")
    executor.update_parameters(**{f"slurm_{name}": 1 for name in slurm.OPTIONS})
    with pytest.raises(NameError, match="'pertition'"):
        executor.update_parameters(slurm_pertition="gpu")


REFUSING = """\
#!/bin/sh
cp "$1" {}
echo 'sbatch: error: invalid partition specified: gpx' >&2
exit 1
"""


def test_jobs_that_sbatch_refuses_leave_a_sentence_and_no_file(
    pipeline, tmp_path, monkeypatch, capfd
):
    for name in ("srun", "sbatch"):
        (tmp_path / name).write_text(REFUSING.format(tmp_path / "script"))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(slurm, "CLUSTER", "slurm")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    options = {"partition": "gpx", "account": "007", "mem_gb": "1.5", "time": "240"}
    with pytest.raises(UserError) as raised:
        extract_with_slurm(origin(pipeline), ["one"], "cpu", 2, options)
    assert str(raised.value) == (
        "--engine slurm: sbatch refused the jobs (sbatch: error: invalid partition specified: "
        "gpx); correct --slurm."
    )
    assert "sbatch" not in capfd.readouterr().err
    assert list((pipeline.parent / "run" / "slurm").iterdir()) == []
    lines = (tmp_path / "script").read_text().splitlines()
    assert {f"#SBATCH --{k}" for k in ("account=007", "mem=1536MB", "time=240")} <= set(lines)
    with pytest.raises(UserError) as raised:
        extract_with_slurm(origin(pipeline), ["one"], "cpu", 1, {"time": "9", "mem_gb": "1e99"})
    assert str(raised.value) == (
        "--slurm mem_gb=1e99: submitit does not take this value; give one as sbatch takes it, as "
        "time=240, mem_gb=16 or gpus_per_node=1."
    )


def test_the_command_line_submits(pipeline, monkeypatch):
    monkeypatch.setattr(slurm, "CLUSTER", "debug")
    words = ("extract", "prosody", "--engine", "slurm", "--slurm", "partition=gpu", "--jobs", "2")
    done = ser(*words, cwd=pipeline.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"extract  prosody: {CLIPS} extracted, 0 already cached")
    done = ser(*words, "--slurm", "partiton=gpu", cwd=pipeline.parent)  # where all is cached
    assert (done.returncode, done.stderr) == (
        2,
        "ser: --slurm partiton: there is no such option of submitit; did you mean 'partition'?\n",
    )
    done = ser("extract", "--all", "--slurm", "partition=gpu", cwd=pipeline.parent)
    assert (done.returncode, done.stderr) == (2, "ser: --slurm goes with --engine slurm; add it.\n")
    done = ser("extract", "--all", "--engine", "slurm", "--slurm", "gpu", cwd=pipeline.parent)
    assert (done.returncode, done.stderr) == (2, "ser: --slurm gpu: give it as KEY=VALUE.\n")
