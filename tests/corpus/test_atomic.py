"""Files are whole or absent, with no leftovers."""

import os
import subprocess

import pytest

from ser.corpus.atomic import host, remove_leftovers, staged, write_durably, write_if_changed


def test_a_staged_file_replaces_the_old_one_at_the_end_and_keeps_the_umask(tmp_path):
    path = tmp_path / ("n" * 250)
    for umask, mode in ((0o022, 0o644), (0o027, 0o640)):
        before = os.umask(umask)
        try:
            write_durably(path, "text")
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == mode
    with pytest.raises(KeyError), staged(path) as part:
        part.write_text("half")
        raise KeyError
    assert path.read_text() == "text"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_equal_file_is_not_written_again(tmp_path):
    path = tmp_path / "f"
    assert write_if_changed(path, "é")
    inode = path.stat().st_ino
    assert not write_if_changed(path, "é")
    assert path.stat().st_ino == inode
    assert write_if_changed(path, "e")
    assert path.read_text() == "e"


def test_leftovers_of_dead_processes_go_and_those_of_live_ones_stay(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {
        f".f.{host()}-{dead.pid}-00000000.part": False,
        f".f.{host()}-{os.getpid()}-00000000.part": True,
        ".f.elsewhere-1-00000000.part": True,
        ".f.0123abcd.part": True,  # of an older version, new
        ".g.0123abcd.part": False,
        ".h.elsewhere-1-00000000.part": False,
        "f.part": True,
    }
    for name in names:
        (tmp_path / name).touch()
    os.utime(tmp_path / ".g.0123abcd.part", (0, 0))
    os.utime(tmp_path / ".h.elsewhere-1-00000000.part", (0, 0))
    remove_leftovers(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {name for name, stays in names.items() if stays}


def test_a_file_that_a_killed_process_was_writing_leaves_nothing_when_it_is_written_again(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in ("f", "g"):
        (tmp_path / f".{name}.{host()}-{dead.pid}-00000000.part").touch()
    write_durably(tmp_path / "f", "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f".g.{host()}-{dead.pid}-00000000.part",  # `g` is not what was written
        "f",
    ]
