"""A folder is replaced in one step; where that cannot be, the old one is brought back."""

import ser.cache.swap
from ser.cache.swap import recover_folder, replace_folder


def make(folder, text):
    folder.mkdir()
    (folder / "f").write_text(text)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_folder_takes_the_place_of_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "stack"
    for text, can_exchange in (("1", True), ("2", True), ("3", False)):
        if not can_exchange:
            monkeypatch.setattr(ser.cache.swap, "exchange", lambda one, other: False)
        replace_folder(make(tmp_path / ".new", text), target)
        assert (target / "f").read_text() == text
        assert names(tmp_path) == ["stack"]
    monkeypatch.undo()
    (target / "f").unlink()
    target.rmdir()
    target.write_text("a file in its place")
    replace_folder(make(tmp_path / ".new", "4"), target)
    assert (target / "f").read_text() == "4"
    assert names(tmp_path) == ["stack"]


def test_a_folder_that_a_kill_left_aside_is_brought_back(tmp_path):
    make(tmp_path / ".stack.old", "old")
    recover_folder(tmp_path / "stack")
    assert (tmp_path / "stack" / "f").read_text() == "old"
    make(tmp_path / ".stack.old", "older")
    recover_folder(tmp_path / "stack")
    assert (tmp_path / "stack" / "f").read_text() == "old"
    assert names(tmp_path) == ["stack"]
