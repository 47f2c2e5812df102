"""What the machine refuses is one sentence with the path; a bug of ours keeps its traceback."""

import errno
import os
import re
import warnings

import h5py
import polars as pl
import pytest

import ser.commands.main
from ser.corpus.atomic import write_durably
from ser.corpus.errors import Note
from ser.engines.machine import machine_problem

KEPT = "finished work is kept"


def problem(error):
    return str(machine_problem(error, kept=True))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "get the permission, or use another folder,"),
        (errno.EROFS, "make it writable, or use another folder,"),
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.ENOTDIR, "move the file that is in the place of a folder"),
        (errno.EISDIR, "move the folder that is in the place of a file"),
        (errno.EIO, "check the disk, which cannot be read or written,"),
        (errno.ELOOP, "correct the links, which lead to one another,"),
        (errno.EMFILE, "raise the limit of open files (`ulimit -n`)"),
        (errno.ESTALE, "correct that"),
    ],
)
def test_an_error_of_the_system_names_the_path_and_a_remedy(number, remedy):
    text = os.strerror(number)
    error = OSError(number, text, "/a/b")
    again = f"{remedy} and run the same command again."
    assert str(machine_problem(error, kept=True)) == f"/a/b: {text}; {KEPT}: {again}"
    assert str(machine_problem(error, kept=False)) == f"/a/b: {text}; {again}"


def test_a_full_disk_and_a_quota():
    again = f"{KEPT}: make room and run the same command again."
    assert problem(OSError(errno.ENOSPC, "")) == f"the disk is full; {again}"
    part = OSError(errno.ENOSPC, "", "/a/run/.head.json.x.part")
    assert problem(part) == f"/a/run: the disk is full; {again}"
    assert problem(OSError(errno.EDQUOT, "")) == f"your quota of the disk is used up; {again}"


def test_what_libraries_make_of_it(tmp_path):
    wrapped = pl.exceptions.ComputeError("failed to write: No space left on device (os error 28)")
    assert problem(wrapped).startswith("the disk is full; ")
    with pytest.raises(OSError) as error:
        h5py.File(tmp_path / "no" / "x.h5", "w")
    assert problem(error.value).startswith(f"{tmp_path}/no/x.h5: No such file or directory;")


def test_errors_of_ours_are_none():
    assert machine_problem(ValueError("No space left (os error 28)"), kept=True) is None
    assert machine_problem(RuntimeError("errno = 13"), kept=True) is None
    assert machine_problem(KeyError("x"), kept=True) is None


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("file/f", "Not a directory", 2),
        ("folder", "Directory not empty", 2),
        ("loop/f", "Too many levels of symbolic links", 2),
        ("folder/" + "n" * 5000, "File name too long", 2),
        ("none/f", "No such file or directory", 1),
    ],
)
def test_the_command_line_says_it_in_one_sentence(  # noqa: PLR0917
    tmp_path, monkeypatch, capsys, name, text, code
):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    path = tmp_path / name
    monkeypatch.setattr(ser.commands.main, "cli", lambda **_: write_durably(path, ""))
    with pytest.raises(SystemExit) as end:
        ser.commands.main.main()
    assert end.value.code == code
    message = capsys.readouterr().err
    assert message.startswith(f"ser: {tmp_path}/{name[:4]}")
    assert re.search(rf"(: |…: ){text}; (move|correct|choose)", message), message
    assert message.endswith(" and run the same command again.\n")
    assert message.count("\n") == 1


def test_a_bug_keeps_its_traceback_and_a_note_is_one_line(monkeypatch, capsys):
    def command(**_):
        warnings.warn("run: no checksums.", Note, stacklevel=1)
        raise ValueError("No space left on device")

    monkeypatch.setattr(ser.commands.main, "cli", command)
    with pytest.raises(ValueError, match="No space"):
        ser.commands.main.main()
    assert capsys.readouterr().err == "ser: run: no checksums.\n"
