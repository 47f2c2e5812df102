"""Many files: goes on where it was, lists what failed, keeps what is done."""

import csv
import shutil

import pytest

from corpus.errors import UserError
from ser.predict.folder import audio_files, predict_files


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
    """Ask the real predictor, and count which files it is asked about."""

    def __init__(self, predictor):
        self.predictor, self.asked = predictor, []
        self.classes, self.attributes = predictor.classes, predictor.attributes

    def each(self, clips, **options):
        self.asked += clips
        return self.predictor.each(clips, **options)


def test_a_folder_is_searched_and_files_are_taken_as_they_are(folder, clips):
    found = audio_files([folder, folder / "notes.txt", folder])
    names = [str(path.relative_to(folder)) for path in found]
    assert names == [
        "broken.wav",
        f"deep/{clips[2].name}",
        clips[0].name,
        clips[1].name,
        "notes.txt",
    ]


def test_failures_are_listed_and_the_others_written(small, folder, tmp_path):
    out = tmp_path / "out.csv"
    failed = predict_files(small.p, audio_files([folder]), out)
    assert [each.path for each in failed] == [str(folder / "broken.wav")]
    assert len(rows(out)) == 3
    assert rows(tmp_path / "out.failed.csv") == [
        {"path": str(folder / "broken.wav"), "error": "not audio (Format not recognised)"}
    ]


def test_it_goes_on_behind_the_last_whole_line(small, folder, tmp_path):
    out, p = tmp_path / "out.csv", Counting(small.p)
    files = audio_files([folder])
    predict_files(p, files, out)
    whole, lines = rows(out), out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:2]) + lines[2][:20])  # killed while it wrote
    p.asked.clear()
    predict_files(p, files, out)
    same(rows(out), whole)
    assert p.asked == [files[0], *files[2:]]  # what failed is tried again
    (folder / "broken.wav").unlink()
    p.asked.clear()
    assert predict_files(p, audio_files([folder]), out) == []
    assert p.asked == []
    same(rows(out), whole)
    assert not (tmp_path / "out.failed.csv").exists()


def test_a_timeline_that_was_cut_short_is_made_again(small, folder, tmp_path):
    out, p = tmp_path / "out.csv", Counting(small.p)
    files = [path for path in audio_files([folder]) if path.name != "broken.wav"]
    options = {"timeline": True, "cut": "windows", "window": 1.0, "hop": 0.1}
    predict_files(p, files, out, **options)
    whole = rows(out)
    p.asked.clear()
    predict_files(p, files, out, **options)
    assert p.asked == files[2:]
    same(rows(out), whole)


def test_a_file_of_other_columns_is_not_written_to(small, folder, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("path,emotion\n")
    with pytest.raises(UserError) as error:
        predict_files(small.p, audio_files([folder]), out)
    assert str(error.value) == (
        f"{out}: its columns are not those of this run (path, seconds, emotion, p.angry, p.sad, "
        "p.neutral, arousal, valence, dominance, transcript); give another file with `--out`, or "
        "delete it."
    )
    assert out.read_text() == "path,emotion\n"
