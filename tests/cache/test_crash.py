"""A writer that dies, or whose disk fills up, harms nothing that was committed."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cache.features import FeatureCache
from tests.cache.factories import SPEC, make_cache, ragged

WRITER = """
import sys
from tests.cache.factories import make_cache, ragged
make_cache(sys.argv[1], ragged(0, 4000), shard_bytes=20_000)
"""


@pytest.mark.parametrize("after", [0.02, 0.1, 0.3])
def test_kill_9_leaves_whole_utterances_and_resume_completes(tmp_path, after):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=Path.cwd())
    store = tmp_path / "whisper"
    while not list(store.glob("*/data.zarr/*/zarr.json")):
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    data = ragged(0, 4000)
    cache = FeatureCache(next(store.iterdir()))
    there = cache.index()["utterance"].to_list()
    assert there
    for utterance in there:
        np.testing.assert_array_equal(cache.frames(utterance, True), data[utterance].astype("f2"))
    rest = {u: x for u, x in data.items() if u not in set(there)}
    complete = make_cache(tmp_path, rest) if rest else cache
    assert sorted(complete.index()["utterance"]) == sorted(data)
    assert complete.verify() == []


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
        there = again.index()["utterance"].to_list()
        assert there == [f"u{i}" for i in range(len(there))]
        assert there
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
