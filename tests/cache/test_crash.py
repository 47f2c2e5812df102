"""A writer that dies, or whose disk fills up, harms nothing that was committed."""

import errno
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ser.cache.features import FeatureCache
from tests.cache.factories import COUNT, SPEC, open_crash
from tests.ser import warm

SOAK_SECONDS = float(os.environ.get("SER_SOAK_SECONDS", "1"))

RESUMING = """
import os, sys
from tests.cache.factories import COUNT, frames_of, open_crash
cache = open_crash(sys.argv[1])
there = set(cache.index()["utterance"])
print(os.getpid(), flush=True)
with cache.writer(shard_bytes=4_000) as writer:
    for i in range(COUNT):
        if f"u{i}" not in there:
            writer.append(f"u{i}", frames_of(i), stat_hash=i, content_hash=i)
"""


def start(program, *arguments):
    command = [warm.folder() / "python", "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=Path.cwd(), stdout=subprocess.PIPE)


def require_intact(cache):
    """Check every committed utterance against what was written; return how many there are."""
    assert cache.verify() == []
    utterances = cache.index()["utterance"].to_list()
    for utterance, place in zip(utterances, cache.require(utterances), strict=True):
        i = int(utterance[1:])
        frames = cache.encoded(place).data
        assert frames.shape == (1 + i % 40, 4)
        assert (frames == i % 2048).all()
    return len(utterances)


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_moments_lose_nothing_and_resume_completes(tmp_path, kills):
    rng = np.random.default_rng(int(time.time()))
    root, there = tmp_path / "0", 0
    for kill in range(kills):
        process = start(RESUMING, root)
        writer = int(process.stdout.readline())
        time.sleep(rng.uniform(0, 0.25))
        with suppress(ProcessLookupError):  # it has finished
            os.kill(writer, signal.SIGKILL)
        process.wait()
        before, there = there, require_intact(open_crash(root))
        assert there >= before
        if there == COUNT:  # every kill is to fall into the writing
            root, there = tmp_path / str(kill), 0
    start(RESUMING, root).wait()
    cache = open_crash(root)
    assert require_intact(cache) == COUNT
    assert not [p for p in cache.staging.iterdir() if p.is_dir()]


@pytest.mark.slow
def test_commands_that_were_killed_finish_when_they_are_run_again(tmp_path):
    program = """
import random, sys
from pathlib import Path
from tests.faults import run
from tests.faults_cache import PRELOAD, SCENARIOS
for name in PRELOAD[:3]:
    __import__(name)
for scenario in SCENARIOS:
    if scenario.name in ("cache merge", "cache export"):
        place = Path(sys.argv[1]) / scenario.name
        print(scenario.name, run(scenario, place, 1, random.Random(1)).wrong)
"""
    lines = start(program, tmp_path).communicate()[0].decode().splitlines()
    assert lines == [f"cache {name} []" for name in ("merge", "export")]


def test_two_writers_at_once_lose_nothing(tmp_path):
    program = """
import sys, time
from tests.cache.factories import frames_of, open_crash
cache, end, first = open_crash(sys.argv[1]), time.monotonic() + float(sys.argv[2]), int(sys.argv[3])
with cache.writer(shard_bytes=20_000) as writer:
    i = 0
    while time.monotonic() < end:
        if i % 2 == first or i % 10 == 0:  # every tenth is written by both
            writer.append(f"u{i}", frames_of(i), stat_hash=i, content_hash=i)
        i += 1
print(i)
"""
    writers = [start(program, tmp_path, SOAK_SECONDS, first) for first in (0, 1)]
    written = set()
    for first, process in enumerate(writers):
        end = int(process.communicate()[0])
        written |= {f"u{i}" for i in range(end) if i % 2 == first or i % 10 == 0}
    cache = open_crash(tmp_path)
    assert require_intact(cache) == len(written)
    assert set(cache.index()["utterance"]) == written


def test_a_reader_sees_one_snapshot_while_a_writer_commits(tmp_path):
    program = """
import itertools, sys, numpy as np
from tests.cache.factories import open_crash
cache = open_crash(sys.argv[1])
for round in itertools.count(1):  # until it is killed
    with cache.writer() as writer:
        for i in range(8):
            writer.append(f"u{i}", np.full((3, 4), round % 2048, np.float32))
"""
    cache = open_crash(tmp_path)
    with cache.writer() as writer:
        for i in range(8):
            writer.append(f"u{i}", np.zeros((3, 4), np.float32))
    process = start(program, tmp_path)
    seen = set()
    try:
        while len(seen) < 4:
            reader = open_crash(tmp_path)
            first = [int(reader.frames(f"u{i}", check=True)[0, 0]) for i in range(8)]
            assert len(set(first)) == 1  # a shard is seen whole or not at all
            seen.add(first[0])
            time.sleep(0.05)
            assert [int(reader.frames(f"u{i}", check=True)[0, 0]) for i in range(8)] == first
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
@pytest.mark.parametrize("size", range(300, 420, 8))  # whichever file is the one too many
def test_a_full_disk_leaves_the_cache_valid(tmp_path, size):
    small = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", tmp_path]
    if subprocess.run(small, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        cache = FeatureCache.create(tmp_path, "x", SPEC, {"item_shape": [64]})
        frames = np.ones((100, 64), np.float32)

        def write():
            with cache.writer(shard_bytes=50_000) as writer:
                for i in range(100):
                    writer.append(f"u{i}", frames, 1, 2)

        with pytest.raises(OSError) as error:
            write()
        assert error.value.errno == errno.ENOSPC
        again = FeatureCache(cache.path)
        cached = again.index()["utterance"].to_list()
        assert cached == [f"u{i}" for i in range(len(cached))]
        assert cached
        assert again.verify() == []
        assert not [p for p in cache.staging.iterdir() if p.is_dir()]
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


class CutShort:
    """A file whose disk fills up in the middle of a row, and has room again afterwards."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_row_that_was_cut_short_is_never_committed(tmp_path):
    cache = FeatureCache.create(tmp_path, "x", SPEC, {"item_shape": [4]})

    def write():
        with cache.writer() as writer:
            writer.append("whole", np.ones((3, 4), np.float32), 1, 2)
            (shard,) = writer._open.values()
            shard._file = CutShort(shard._file)
            writer.append("cut", np.ones((300, 4), np.float32), 1, 2)

    with pytest.raises(OSError, match="No space left"):
        write()
    assert FeatureCache(cache.path).index().height == 0
    assert not list(cache.staging.iterdir())


@pytest.mark.parametrize("interrupt", range(1, 18))
def test_ctrl_c_in_the_middle_of_a_commit_publishes_nothing_half(tmp_path, monkeypatch, interrupt):
    cache = FeatureCache.create(tmp_path, "x", SPEC, {"item_shape": [4]})
    real, calls = os.fsync, []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == interrupt:
            raise KeyboardInterrupt
        real(handle)

    def write():
        with cache.writer() as writer:
            writer.append("whole", np.ones((300, 4), np.float32))
            monkeypatch.setattr(os, "fsync", fsync)

    with suppress(KeyboardInterrupt):
        write()
    monkeypatch.undo()
    assert calls
    again = FeatureCache(cache.path)
    assert again.verify() == []
    assert again.index()["utterance"].to_list() in ([], ["whole"])
    with again.writer() as writer:
        writer.append("whole", np.ones((300, 4), np.float32))
    assert FeatureCache(cache.path).verify() == []
