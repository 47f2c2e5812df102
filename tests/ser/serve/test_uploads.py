"""The register of the page's uploads."""

from ser.serve.uploads import Uploads


def uploaded(uploads, name="clip.wav"):
    path = uploads.new_folder() / name
    path.write_bytes(b"x")
    uploads.add(path, name)
    return path


def test_an_upload_is_found_under_its_exact_path_and_taken_once(tmp_path):
    uploads = Uploads(tmp_path)
    path = uploaded(uploads)
    for other in (
        *("", str(tmp_path), str(path.parent), f"{path}/", f"{path.parent}/./clip.wav"),
        *(f"{path}\0", str(path).upper(), f"{path.parent}/../{path.parent.name}/clip.wav"),
    ):
        assert uploads.find(other) is None
        assert uploads.take(other) is None
    (tmp_path / "link").symlink_to(path)
    assert uploads.find(str(tmp_path / "link")) is None
    upload = uploads.take(str(path))
    assert (upload.path, upload.name) == (path, "clip.wav")
    assert uploads.take(str(path)) is None
    upload.delete()
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_only_abandoned_uploads_are_deleted(tmp_path):
    uploads = Uploads(tmp_path)
    (tmp_path / "other").mkdir()
    old = uploaded(uploads)
    uploads.sweep(60)
    assert old.exists()
    uploads.sweep(-1)
    assert uploads.find(str(old)) is None
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_two_uploads_share_no_folder(tmp_path):
    uploads = Uploads(tmp_path)
    folders = {uploaded(uploads).parent for _ in range(50)}
    assert len(folders) == 50
    assert all(len(folder.name) == 32 for folder in folders)
