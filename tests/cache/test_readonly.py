"""A cache that may not be written is read; files have the mode of the umask; leftovers go."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from ser.cache.features import FeatureCache
from ser.cache.upkeep import every_folder, merge, remove_deleted
from ser.commands.main import cli
from tests.cache.factories import SPEC, make_cache, ragged

# mounts the cache read-only where that is possible, else takes the permission away; then runs
# commands of `ser` in one process and prints how each ended
PROGRAM = """
import os, subprocess, sys
from ser.commands.main import cli
cache, commands = sys.argv[1], [line.split() for line in sys.argv[2:]]
for words in commands:
    try:
        print(words[0], "exit", cli(words, standalone_mode=False) or 0, flush=True)
    except BaseException as error:
        print(words[0], repr(error), flush=True)
"""
PIPELINE = """
corpus: {manifest: m.csv, audio: audio, classes: [angry, sad]}
cache: cache
run: run
features:
  prosody: {kind: prosody}
heads: {}
"""


def ser_readonly(folder: Path, *commands: str) -> str:
    """Run commands in a folder whose cache is mounted read-only; skips the test where it cannot."""
    mount = 'mount --bind cache cache && mount -o remount,ro,bind cache cache && exec "$@"'
    program = [sys.executable, "-c", PROGRAM, str(folder / "cache"), *commands]
    unshare = ["unshare", "-m", "sh", "-c", mount, "sh"]
    probe = subprocess.run([*unshare, "true"], cwd=folder, capture_output=True, check=False)
    if probe.returncode == 0:
        program = [*unshare, *program]
    elif os.geteuid() == 0:
        pytest.skip("nothing can be mounted here, and root may write everywhere")
    else:
        for path in [folder / "cache", *(folder / "cache").rglob("*")]:
            path.chmod(path.stat().st_mode & ~stat.S_IWUSR)
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_what_is_cached_read_only_is_current_for_every_command(tmp_path, monkeypatch):
    (tmp_path / "audio").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(4):
        wave = rng.standard_normal(4_000) * 0.1
        soundfile.write(tmp_path / "audio" / f"u{i}.wav", wave, 16_000)
        rows.append((f"u{i}", f"u{i}.wav", ("angry", "sad")[i % 2], "train"))
    rows.append(("gone", "gone.wav", "sad", "train"))
    columns = ["utterance", "path", "emotion", "split"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(tmp_path / "m.csv")
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    assert cli(["extract", "--all"], standalone_mode=False) == 1  # one clip is listed
    monkeypatch.undo()
    (index,) = (tmp_path / "cache").glob("*/*/index.parquet")
    index.unlink()  # a stale one is rebuilt in memory
    before = {p: p.lstat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")}
    out = ser_readonly(
        tmp_path,
        "extract --all",
        "extract prosody --jobs 2",
        "cache info",
        "cache verify",
        "cache export prosody x.h5",
        "cache merge cache cache",
    )
    assert "4 already cached, 1 failed" in out
    assert "4 utterances" in out
    ends = [line for line in out.splitlines() if " exit " in line or "Error" in line]
    assert ends == [
        "extract exit 1",  # `gone` is still listed
        "extract exit 1",
        "cache exit 0",
        "cache exit 0",
        "cache exit 0",
        "cache exit 0",
    ]
    assert {p: p.lstat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")} == before
    assert (tmp_path / "x.h5").is_file()


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_every_file_and_folder_has_the_mode_of_the_umask(tmp_path, umask):
    make_cache(tmp_path / "source", ragged(0, 4), precision="int8")
    for path in (tmp_path / "source").rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    before = os.umask(umask)
    try:
        cache = make_cache(tmp_path / "a" / "cache", ragged(1, 4))
        cache.record({"bad": "not audio"})
        merge(tmp_path / "a" / "cache", tmp_path / "source")
        merge(tmp_path / "a" / "other", tmp_path / "source")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert modes == {0o666 & ~umask}
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a").rglob("*") if p.is_dir()}
    assert modes == {0o777 & ~umask}


def test_leftovers_of_dead_writers_are_cleaned_and_those_of_live_ones_stay(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 1))
    host = next((cache.path / "data.zarr").glob("*-*")).name.rsplit("-", 2)[0]
    dead, live = f"{host}-999999999", f"{host}-1"
    old = cache.path / ".feature.json.0123abcd.part"
    elsewhere = cache.staging / "elsewhere-7-0123456789ab"
    gone = [
        cache.path / f".index.parquet.{dead}-0123abcd.part",
        cache.path / f".feature.json.{dead}-0123abcd.part",
        cache.staging / f".{dead}-5.parquet.{dead}-0123abcd.part",
        cache.staging / f"{dead}-0123456789ab",
        old,
        elsewhere,
    ]
    stay = [
        cache.path / f".index.parquet.{live}-0123abcd.part",
        cache.path / ".index.parquet.elsewhere-7-0123abcd.part",
        cache.staging / f"{live}-0123456789ab",
        cache.staging / "elsewhere-8-0123456789ab",
        cache.staging / f"unsent-{dead}-0123456789ab",
    ]
    for path in [*gone, *stay]:
        path.touch() if path.name.endswith(".part") else path.mkdir()
    for path in (old, elsewhere):
        os.utime(path, (0, 0))
    FeatureCache(cache.path).clean()
    assert [p for p in gone if p.exists()] == []
    assert [p for p in stay if not p.exists()] == []


def test_a_deletion_that_was_interrupted_is_finished_and_the_folder_is_not_seen(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 2))
    make_cache(tmp_path, ragged(0, 2), spec=SPEC | {"layer": 2})
    gone = cache.path.with_name(f".deleted-{cache.fingerprint}-host-1-ab")
    cache.path.rename(gone)
    assert [f.metadata["spec"]["layer"] for f in every_folder(tmp_path)] == [2]
    remove_deleted(tmp_path)
    assert not gone.exists()
    assert len(list((tmp_path / "whisper").iterdir())) == 1
