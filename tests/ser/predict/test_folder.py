"""Many files: goes on where it was, lists what failed, keeps what is done."""

import csv
import os
import shutil
from pathlib import Path

import pytest

import ser
from ser.corpus.errors import UserError
from ser.predict.folder import predict_files, search


@pytest.fixture
def folder(small, clips, tmp_path):
    """Return a folder with four clips, one of them broken, and a text."""
    inside = tmp_path / "in"
    (inside / "deep").mkdir(parents=True)
    for path in clips[:2]:
        shutil.copy(path, inside)
    shutil.copy(clips[2], inside / "deep")
    (inside / "broken.wav").write_text("not audio")
    (inside / "notes.txt").write_text("not audio")
    return inside


def test_every_suffix_that_is_decoded_is_found_and_the_others_are_named(tmp_path):
    names = [
        "a.W64",
        "b.aifc",
        "c.caf",
        "d.mp2",
        "e.sph",
        "f.M4B",
        "g.ts",
        "h.wv",
        "i.bwf",
        "j.voc",
    ]
    others = ["cover.jpg", "notes.txt", "table.mat", "x"]
    for name in [*names, *others, ".hidden.txt", ".DS_Store", "._a.wav"]:
        (tmp_path / name).touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").touch()
    (tmp_path / ".git" / "a.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    search_result = search([tmp_path])
    assert [path.name for path in search_result.files] == names
    assert [path.name for path in search_result.passed_over] == others
    assert search_result.note == (
        "skipped 4 files that are not audio by suffix: cover.jpg, notes.txt, table.mat, x"
    )
    assert search([tmp_path / "x"]).note == ""  # what is named is taken as it is


def test_names_that_are_not_files_are_reported(tmp_path):
    (tmp_path / "x.wav").symlink_to("nowhere")
    os.mkfifo(tmp_path / "y.wav")
    for number in range(12):
        (tmp_path / f"{number:02}.txt").touch()
    search_result = search([tmp_path])
    assert search_result.files == []
    assert search_result.note == (
        "skipped 12 files that are not audio by suffix: "
        "00.txt, 01.txt, 02.txt, 03.txt, 04.txt, 05.txt, 06.txt, 07.txt, 08.txt, 09.txt and 2 more"
        "; skipped 1 link that is broken: x.wav"
        "; skipped 1 name that is not of a regular file: y.wav"
    )


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def same(found, expected):
    """Compare rows; a clip in another batch may differ in its last digit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            try:
                assert float(value) == pytest.approx(float(other[name]), abs=1e-4)
            except ValueError:
                assert value == other[name]


class Counting:
    """The real predictor, and the files that it was given."""

    def __init__(self, predictor):
        self.predictor, self.given, self.loads = predictor, [], 0
        self.classes, self.attributes = predictor.classes, predictor.attributes
        self.min_confidence = predictor.min_confidence

    def load(self):
        self.loads += 1

    def stream(self, clips, **options):
        self.given += clips
        return self.predictor.stream(clips, **options)


def test_a_folder_is_searched_and_files_are_taken_as_they_are(folder, clips):
    search_result = search([folder, folder / "notes.txt", folder]).files
    names = [str(path.relative_to(folder)) for path in search_result]
    assert names == [
        "broken.wav",
        f"deep/{clips[2].name}",
        clips[0].name,
        clips[1].name,
        "notes.txt",
    ]


def test_failures_are_listed_and_the_others_written(small, folder, tmp_path):
    out = tmp_path / "out.csv"
    failed = predict_files(small.seen, search([folder]).files, out)
    assert [each.path for each in failed] == [str(folder / "broken.wav")]
    assert len(rows(out)) == 3
    assert rows(tmp_path / "out.failed.csv") == [
        {"path": str(folder / "broken.wav"), "error": "not audio (Format not recognised)"}
    ]


def test_it_resumes_after_the_last_whole_line(small, folder, tmp_path):
    out, p = tmp_path / "out.csv", Counting(small.seen)
    files = search([folder]).files
    predict_files(p, files, out)
    whole, lines = rows(out), out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:2]) + lines[2][:20])  # killed while it wrote
    p.given.clear()
    predict_files(p, files, out)
    same(rows(out), whole)
    assert p.given == [files[0], *files[2:]]  # what failed is tried again
    (folder / "broken.wav").unlink()
    p.given.clear()
    assert p.loads == 2
    assert predict_files(p, search([folder]).files, out) == []
    assert p.given == []
    assert p.loads == 2  # nothing is left, so no model is loaded
    same(rows(out), whole)
    assert not (tmp_path / "out.failed.csv").exists()


def test_a_timeline_that_was_cut_short_is_made_again(small, folder, tmp_path):
    out, p = tmp_path / "out.csv", Counting(small.seen)
    files = [path for path in search([folder]).files if path.name != "broken.wav"]
    options = {"timeline": True, "cut": "windows", "window": 1.0, "hop": 0.1}
    predict_files(p, files, out, **options)
    whole = rows(out)
    p.given.clear()
    predict_files(p, files, out, **options)
    assert p.given == files[2:]
    same(rows(out), whole)


def test_a_file_of_other_columns_is_not_written_to(small, folder, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("path,emotion\n")
    with pytest.raises(UserError) as error:
        predict_files(small.p, search([folder]).files, out)
    assert str(error.value) == (
        f"{out}: its columns differ from those of this run (path, seconds, emotion, p.angry, "
        "p.sad, p.neutral, arousal, valence, dominance, transcript, notes); give another file with "
        "`--out`, or delete it."
    )
    assert out.read_text() == "path,emotion\n"


def test_a_name_that_is_not_utf8_costs_nothing(small, clips, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.wav")
    shutil.copy(clips[0], odd)
    shutil.copy(clips[1], tmp_path / "fine.wav")
    broken = os.fsdecode(os.fsencode(tmp_path) + b"/broken\xff.wav")
    Path(broken).write_text("not audio")
    files, out = [Path(odd), Path(broken), tmp_path / "fine.wav"], tmp_path / "out.csv"
    for _ in range(2):  # the second time it goes on where it was
        assert [failure.path for failure in predict_files(small.seen, files, out)] == [broken]
        assert [Path(row["path"]).name for row in rows(out)] == ["bad\\udcff.wav", "fine.wav"]
        assert "broken\\udcff.wav" in out.with_name("out.failed.csv").read_text("utf-8")


def test_with_one_speaker_a_new_file_changes_the_results_of_all(small, clips, tmp_path):
    p = ser.load(small.run, "cpu", head="voice")
    out, fresh = tmp_path / "x.csv", tmp_path / "fresh.csv"
    predict_files(p, clips[:2], out, one_speaker=True)
    before = out.read_text()
    predict_files(p, clips[:2], out, one_speaker=True)
    assert out.read_text() == before
    predict_files(p, clips[:3], out, one_speaker=True)
    predict_files(p, clips[:3], fresh, one_speaker=True)
    assert out.read_text() == fresh.read_text()
    assert out.read_text().splitlines()[1] != before.splitlines()[1]
    predict_files(small.seen, clips[:1], tmp_path / "y.csv", one_speaker=True)
    kept = (tmp_path / "y.csv").read_text()
    predict_files(small.seen, clips[:2], tmp_path / "y.csv", one_speaker=True)  # of no such head
    assert (tmp_path / "y.csv").read_text().startswith(kept)
