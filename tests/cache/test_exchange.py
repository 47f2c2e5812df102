"""Features to HDF5 and from HDF5, NumPy, PyTorch and safetensors: the same numbers, or named."""

import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ser.cache.exchange import Report, export_hdf5, import_features
from ser.cache.features import FeatureCache
from ser.corpus.errors import UserError
from tests.cache.factories import (
    ODD,
    SPEC,
    assert_same_cache,
    flip,
    frames_file,
    make_cache,
    ragged,
)


def save_npy(folder, arrays):
    for utterance, array in arrays.items():
        file = folder / f"{utterance}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, array)
    return folder


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_a_round_trip_gives_the_same_cache(tmp_path, precision):
    cache = make_cache(tmp_path / "here", ragged(0, 12), precision=precision, shard_bytes=999)
    report = export_hdf5(cache, tmp_path / "x.h5")
    assert report == Report(cache.fingerprint, count=12)
    report = import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    assert report == Report(cache.fingerprint, count=12)
    again = FeatureCache.open(tmp_path / "there", "whisper", SPEC)
    assert_same_cache(cache, again)
    assert again.verify() == []


def test_layers_and_what_float16_cannot_hold_come_back(tmp_path):
    data = {"a": np.arange(24, dtype="f4").reshape(2, 3, 4), "b": np.full((1, 3, 4), 1e5, "f4")}
    cache = make_cache(tmp_path / "here", data)
    export_hdf5(cache, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file["a"].dtype, file["b"].dtype) == (np.float16, np.float32)
        np.testing.assert_array_equal(file["a"][()], data["a"])
    report = import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    assert (report.count, report.overflowed) == (2, 1)
    assert_same_cache(cache, FeatureCache.open(tmp_path / "there", "whisper"))


def test_the_file_says_what_it_holds(tmp_path):
    cache = make_cache(tmp_path, {"u": np.ones((3, 2), np.float32)})
    export_hdf5(cache, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert dict(file.attrs) == {
            "format": "ser-features-hdf5/1",
            "feature": "whisper",
            "fingerprint": cache.fingerprint,
            "spec": '{"kind": "whisper", "layer": -1, "weights": "sha256:0"}',
            "about": '{"item_shape": [2], "frame_rate": 50}',
            "item_shape": "[2]",
            "frame_rate": 50.0,
            "precision": "float16",
        }
        crc = cache.index()["crc32c"][0]
        assert file["u"].attrs["ser"].tolist() == [1, 2, crc]


@pytest.mark.parametrize("view", [False, True])
def test_odd_ids_are_escaped_and_come_back(tmp_path, view):
    data = {u: np.full((2, 3), i, np.float32) for i, u in enumerate(ODD)}
    cache = make_cache(tmp_path / "here", data)
    assert export_hdf5(cache, tmp_path / "x.h5", view).failed == {}
    with h5py.File(tmp_path / "x.h5") as file:
        assert set(file) == {
            *("a%2Fb", "a", "%2E%2E", "%2E", "100%25", "%252F", "é ü", "x.y", "%2F", "a%00b")
        }
    import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    assert_same_cache(cache, FeatureCache.open(tmp_path / "there", "whisper"))


def test_int8_is_exported_as_its_decoded_floats(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 3), precision="int8")
    export_hdf5(cache, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        for utterance in ("u0", "u1", "u2"):
            assert file[utterance].dtype == np.float32
            np.testing.assert_array_equal(file[utterance][()], cache.frames(utterance))


def test_only_an_earlier_export_is_replaced(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 3))
    for _ in range(2):
        assert export_hdf5(cache, tmp_path / "x.h5").count == 3
    manifest = tmp_path / "m.csv"
    manifest.write_text("utterance,path\n")
    with pytest.raises(UserError, match=r"m\.csv: the file holds something else; export to anoth"):
        export_hdf5(cache, manifest)
    assert manifest.read_text() == "utterance,path\n"


@pytest.mark.parametrize("format_", [None, "other/1", [1, 2], h5py.Empty("f")])
def test_an_hdf5_file_of_something_else_is_not_replaced(tmp_path, format_):
    cache, theirs = make_cache(tmp_path, ragged(0, 3)), tmp_path / "theirs.h5"
    with h5py.File(theirs, "w") as file:
        if format_ is not None:
            file.attrs["format"] = format_
    content = theirs.read_bytes()
    with pytest.raises(UserError, match=r"theirs\.h5: the file holds something else; export to"):
        export_hdf5(cache, theirs)
    assert theirs.read_bytes() == content


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_a_view_holds_no_frames_and_reads_the_same(tmp_path, precision):
    data = ragged(0, 10, dim=256, longest=400)
    cache = make_cache(tmp_path, data, precision=precision, shard_bytes=300_000)
    assert export_hdf5(cache, tmp_path / "x.h5", view=True).count == 10
    assert (tmp_path / "x.h5").stat().st_size < 20_000
    with h5py.File(tmp_path / "x.h5") as file:
        for utterance in data:
            np.testing.assert_array_equal(file[utterance][()], cache.frames(utterance))


def test_a_view_of_a_moved_or_cut_cache_is_noticed_on_import(tmp_path):
    cache = make_cache(tmp_path / "here", {"u": np.ones((400, 8), np.float32)})
    export_hdf5(cache, tmp_path / "x.h5", view=True)
    file = frames_file(cache)
    file.write_bytes(file.read_bytes()[:10])
    with h5py.File(tmp_path / "x.h5") as view:
        assert not view["u"][5:].any()  # HDF5's silent zeros, why the crc32c is kept
    report = import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    assert report.failed == {
        "u": f"{tmp_path / 'x.h5'}: not readable (the crc32c of the frames differs)"
    }
    (tmp_path / "here").rename(tmp_path / "moved")
    with h5py.File(tmp_path / "x.h5") as view, pytest.raises(OSError, match="external raw data"):
        view["u"][()]
    report = import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    assert "unable to open external raw data file" in report.failed["u"]


def test_a_view_of_int8_is_refused_and_leaves_nothing(tmp_path):
    cache = make_cache(tmp_path / "here", ragged(0, 2), precision="int8")
    shard = frames_file(cache).parents[3]
    with pytest.raises(UserError) as error:
        export_hdf5(cache, tmp_path / "x.h5", view=True)
    assert str(error.value) == f"{shard}: int8 needs its scale; export without --view."
    assert [p.name for p in tmp_path.iterdir()] == ["here"]


def test_damaged_rows_are_left_out_and_named(tmp_path):
    data = ragged(0, 6)
    cache = make_cache(tmp_path, data)
    file = frames_file(cache)
    flip(file, len(data["u0"]) * 16)  # the first byte of u1
    report = export_hdf5(FeatureCache(cache.path), tmp_path / "x.h5")
    assert (report.count, report.failed) == (
        5,
        {"u1": f"{file.parents[3]}: the frames are damaged"},
    )
    with h5py.File(tmp_path / "x.h5") as out:
        assert sorted(out) == ["u0", "u2", "u3", "u4", "u5"]
    file.unlink()
    report = export_hdf5(FeatureCache(cache.path), tmp_path / "x.h5")
    assert (report.count, sorted(report.failed)) == (0, sorted(data))
    assert report.failed["u0"].startswith(f"{file}: the shard is missing")


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    cache = make_cache(tmp_path / "here", ragged(0, 2))
    (tmp_path / "x.h5").mkdir()
    with pytest.raises(UserError) as error:
        export_hdf5(cache, tmp_path / "x.h5")
    assert str(error.value).startswith(f"{tmp_path / 'x.h5'}: it cannot be written (")
    assert str(error.value).endswith("); make room or export elsewhere.")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "x.h5"]


FULL = """
import resource, signal, sys
from pathlib import Path
from ser.cache.exchange import export_hdf5
from ser.cache.features import FeatureCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    export_hdf5(FeatureCache(Path(sys.argv[1])), sys.argv[2])
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("missing", [1, 300_000])
def test_a_full_disk_is_reported_and_leaves_the_old_file(tmp_path, missing):
    cache = make_cache(tmp_path / "here", ragged(0, 40, dim=256))
    export_hdf5(cache, tmp_path / "x.h5")
    earlier = (tmp_path / "x.h5").read_bytes()
    room = len(earlier) - missing
    command = [sys.executable, "-c", FULL, str(cache.path), str(tmp_path / "x.h5"), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"UserError {tmp_path / 'x.h5'}: it cannot be written ([Errno 27] File too large); make "
        "room or export elsewhere.\n"
    )
    assert (tmp_path / "x.h5").read_bytes() == earlier
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "x.h5"]


def test_any_hdf5_file_is_imported_by_path(tmp_path):
    data = {"s1/u1": np.ones((3, 4)), "s1/u2": np.full((2, 4), 2, "i4"), "u%2F": np.zeros(4, ">f4")}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for utterance, frames in data.items():
            file[utterance] = frames
    report = import_features(tmp_path / "x.h5", tmp_path / "c", "mine", frame_rate=25)
    assert (report.count, report.failed) == (3, {})
    cache = FeatureCache.open(tmp_path / "c", "mine", {"kind": "imported", "version": 1})
    assert (cache.fingerprint, cache.metadata["frame_rate"]) == (report.fingerprint, 25.0)
    for utterance, frames in data.items():
        stored = cache.frames(utterance, check=True)
        assert stored.dtype == np.float16
        np.testing.assert_array_equal(stored, np.atleast_2d(frames))


def test_npy_files_are_imported_by_path_without_suffix(tmp_path):
    data = {"s1/u1": np.ones((3, 2, 4), "f4"), "s1/u.2": np.zeros((1, 2, 4), "f2")}
    folder = save_npy(tmp_path / "npy", data)
    report = import_features(folder, tmp_path / "c", "mine", frame_rate=50, precision="float32")
    assert (report.count, report.failed) == (2, {})
    cache = FeatureCache.open(tmp_path / "c", "mine")
    assert cache.metadata["spec"] == {
        "kind": "imported",
        "version": 1,
        "precision": "float32",
    }
    for utterance, frames in data.items():
        np.testing.assert_array_equal(cache.frames(utterance), frames)
        assert cache.frames(utterance).dtype == np.float32


def test_torch_files_hold_one_tensor(tmp_path):
    base = torch.arange(8.0).reshape(2, 4)
    torch.save(base.clone().requires_grad_(), tmp_path / "a.pt")
    torch.save({"id": "b", "x": base.bfloat16()}, tmp_path / "b.pth")
    torch.save({"x": base, "y": base}, tmp_path / "c.pt")
    torch.save(["no tensor"], tmp_path / "d.pt")
    torch.save({"x": np.random.default_rng}, tmp_path / "e.pt")
    report = import_features(tmp_path, tmp_path / "c", "mine", frame_rate=50)
    cache = FeatureCache.open(tmp_path / "c", "mine")
    for utterance in ("a", "b"):
        np.testing.assert_array_equal(cache.frames(utterance), base.numpy())
    assert report.count == 2
    assert report.failed == {
        "c": f"{tmp_path / 'c.pt'}: not readable (it holds 2 tensors, not one)",
        "d": f"{tmp_path / 'd.pt'}: not readable (it holds 0 tensors, not one)",
        "e": f"{tmp_path / 'e.pt'}: not readable (Weights only load failed)",
    }


def test_safetensors_hold_one_tensor_or_many_by_key(tmp_path):
    base = torch.arange(8.0).reshape(2, 4)
    folder = tmp_path / "st"
    (folder / "s1").mkdir(parents=True)
    save_file({"any": base.bfloat16()}, folder / "s1" / "one.safetensors")
    save_file({"s2/u1": base, "s2/u2": base + 1}, folder / "many.safetensors")
    (folder / "bad.safetensors").write_bytes(b"xxx")
    report = import_features(folder, tmp_path / "c", "mine", frame_rate=50)
    assert (report.count, list(report.failed)) == (3, ["bad"])
    assert report.failed["bad"].startswith(f"{folder / 'bad.safetensors'}: not readable (")
    cache = FeatureCache.open(tmp_path / "c", "mine")
    for utterance, plus in {"s1/one": 0, "s2/u1": 0, "s2/u2": 1}.items():
        np.testing.assert_array_equal(cache.frames(utterance), base.numpy() + plus)


def test_each_bad_array_is_named_and_harms_no_other(tmp_path):
    bad = {
        "dim": np.ones((2, 5), "f4"),
        "empty": np.ones((0, 4), "f4"),
        "huge": np.full((2, 4), 1e300),
        "inf": np.array([[1, 2, np.inf, 4]], "f2"),
        "nan": np.full((2, 4), np.nan, "f4"),
        "scalar": np.float32(1),
        "text": np.array(["a", "b"]),
    }
    folder = save_npy(tmp_path / "npy", bad | {"0": np.ones((2, 4)), "zz": np.ones((1, 4))})
    (folder / "cut.npy").write_bytes((folder / "0.npy").read_bytes()[:-8])
    (folder / "void.npy").touch()
    np.save(folder / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    report = import_features(folder, tmp_path / "c", "mine", frame_rate=50)
    reasons = {
        "cut": "not readable (Failed to read all data for array)",
        "dim": "the features are of shape (2, 5), not (n, 4)",
        "empty": "its shape (0, 4) is not (frames, dim) with one frame or more, or (dim,)",
        "huge": "the features hold NaN or infinite values",
        "inf": "the features hold NaN or infinite values",
        "nan": "the features hold NaN or infinite values",
        "object": "not readable (Object arrays cannot be loaded when allow_pickle=False)",
        "scalar": "its shape () is not (frames, dim) with one frame or more, or (dim,)",
        "text": "it holds <U1, not numbers",
        "void": "not readable (No data left in file)",
    }
    assert report.failed == {u: f"{folder / u}.npy: {why}" for u, why in reasons.items()}
    cache = FeatureCache.open(tmp_path / "c", "mine")
    assert cache.index()["utterance"].to_list() == ["0", "zz"]
    recorded = cache.failed()
    assert dict(zip(recorded["utterance"], recorded["error"], strict=True)) == report.failed


def test_an_import_goes_on_where_it_was(tmp_path):
    folder = save_npy(tmp_path / "npy", {"a": np.ones((2, 4)), "b": np.ones((2, 4))})
    (folder / "c.npy").touch()
    first = import_features(folder, tmp_path / "c", "mine", frame_rate=50)
    assert (first.count, first.skipped, list(first.failed)) == (2, 0, ["c"])
    save_npy(folder, {"b": np.zeros((3, 4)), "c": np.ones((1, 4))})
    os.utime(folder / "a.npy", (1, 1))  # touched, and the same
    created = FeatureCache.open(tmp_path / "c", "mine").index()["created"].max()
    second = import_features(folder, tmp_path / "c", "mine", frame_rate=50)
    assert second == Report(first.fingerprint, count=2, skipped=1)
    cache = FeatureCache.open(tmp_path / "c", "mine")
    np.testing.assert_array_equal(cache.frames("b"), np.zeros((3, 4)))
    assert cache.failed().is_empty()
    rows = dict(zip(cache.index()["utterance"], cache.index()["created"], strict=True))
    assert rows["a"] == created < rows["b"]
    shards = cache.shards()
    stat = (folder / "b.npy").stat()
    (folder / "b.npy").write_bytes(b"?" * stat.st_size)  # not read when size and time are as before
    os.utime(folder / "b.npy", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    third = import_features(folder, tmp_path / "c", "mine", frame_rate=50)
    assert third == Report(first.fingerprint, skipped=3)
    assert cache.shards() == shards


def test_our_own_export_is_imported_once(tmp_path):
    cache = make_cache(tmp_path / "here", ragged(0, 4))
    export_hdf5(cache, tmp_path / "x.h5")
    import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    report = import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    assert report == Report(cache.fingerprint, skipped=4)


def test_a_flipped_bit_in_our_own_export_is_found(tmp_path):
    cache = make_cache(tmp_path / "here", {"a": np.ones((9, 8), "f4"), "b": np.ones((9, 8), "f4")})
    export_hdf5(cache, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["a"][3, 3] = 2
    report = import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    why = f"{tmp_path / 'x.h5'}: not readable (the crc32c of the frames differs)"
    assert (report.count, report.failed) == (1, {"a": why})


def own(key, value):
    def edit(file):
        with h5py.File(file, "r+") as opened:
            opened.attrs[key] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            own("spec", '{"kind": "text"}'),
            "not usable (its spec and its fingerprint do not agree); export it again.",
        ),
        (
            own("format", "ser-features-hdf5/9"),
            "not usable (its format is 'ser-features-hdf5/9', not 'ser-features-hdf5/1'); "
            "export it again.",
        ),
        (
            own("format", "theirs"),
            "it does not state the frames per second; give --frame-rate.",
        ),
    ],
)
def test_an_edited_export_is_refused(tmp_path, edit, message):
    cache = make_cache(tmp_path / "here", ragged(0, 2))
    export_hdf5(cache, tmp_path / "x.h5")
    edit(tmp_path / "x.h5")
    with pytest.raises(UserError) as error:
        import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    assert str(error.value) == f"{tmp_path / 'x.h5'}: {message}"
    assert not (tmp_path / "there").exists()


def test_an_array_of_one_dimension_is_one_frame(tmp_path):
    folder = save_npy(tmp_path / "npy", {"a": np.arange(4.0), "b": np.ones((2, 4))})
    assert import_features(folder, tmp_path / "c", "mine", frame_rate=1).failed == {}
    cache = FeatureCache.open(tmp_path / "c", "mine")
    np.testing.assert_array_equal(cache.frames("a"), np.arange(4.0)[None])


def test_hdf5_with_one_array_for_all_is_refused_with_the_remedy(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["train/frames"] = np.ones((3, 5, 8))
        file["train/ids"] = ["a", "b", "c"]
    with pytest.raises(UserError) as error:
        import_features(tmp_path / "x.h5", tmp_path / "c", "mine", frame_rate=50)
    assert str(error.value) == (
        f"{tmp_path / 'x.h5' / 'train'}: 'frames' beside 'ids' is one array for all utterances, "
        "which is read from Zarr stores only; write a dataset for each utterance."
    )


def test_nothing_to_import_is_one_sentence(tmp_path):
    folder = tmp_path / "npy"
    folder.mkdir()
    with pytest.raises(UserError) as error:
        import_features(folder, tmp_path / "c", "mine", frame_rate=50)
    assert str(error.value) == (
        f"{folder}: it has no arrays to import; give one array for each utterance."
    )
    for utterance in ("a", "b"):
        (folder / f"{utterance}.npy").touch()
    with pytest.raises(UserError) as error:
        import_features(folder, tmp_path / "c", "mine", frame_rate=50)
    assert str(error.value) == (
        f"{folder}: none of its 2 arrays is usable: {folder / 'a.npy'}: not readable "
        "(No data left in file); give one array for each utterance."
    )
    (folder / "b.npy").unlink()
    with pytest.raises(UserError) as error:
        import_features(folder, tmp_path / "c", "mine", frame_rate=50)
    assert str(error.value) == (
        f"{folder}: its one array is not usable: {folder / 'a.npy'}: not readable "
        "(No data left in file); give one array for each utterance."
    )
    (tmp_path / "x.h5").write_text("hello")
    with pytest.raises(
        UserError, match=r"x\.h5: not a folder of arrays, a Zarr store or an HDF5 file \("
    ):
        import_features(tmp_path / "x.h5", tmp_path / "c", "mine", frame_rate=50)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a\nb"])
def test_a_name_that_is_no_folder_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"^a feature cannot be called"):
        import_features(tmp_path, tmp_path / "c", name, frame_rate=50)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_an_impossible_frame_rate_is_refused_and_leaves_nothing(tmp_path, rate):
    folder = save_npy(tmp_path / "npy", {"a": np.ones((1, 2), "f4")})
    with pytest.raises(UserError, match="frames per second are impossible; correct --frame-rate"):
        import_features(folder, tmp_path / "c", "mine", frame_rate=rate)
    assert not (tmp_path / "c").exists()


def test_an_utterance_in_two_files_is_refused(tmp_path):
    folder = save_npy(tmp_path / "npy", {"a": np.ones((2, 4))})
    torch.save(torch.ones(2, 4), folder / "a.pt")
    with pytest.raises(UserError) as error:
        import_features(folder, tmp_path / "c", "mine", frame_rate=50)
    assert str(error.value) == (
        f"{folder / 'a.pt'}: utterance 'a' is in {folder / 'a.npy'} too; keep one."
    )


@settings(deadline=None, max_examples=10)
@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6, unique=True
    ),
    precision=st.sampled_from(["float16", "float32", "int8"]),
)
def test_any_id_survives_a_round_trip(tmp_path_factory, ids, precision):
    root = tmp_path_factory.mktemp("exchange")
    ids = [u for u in ids if not u.endswith("\0")] or ["u"]  # a shard pads ids with NUL
    data = {u: np.random.default_rng(i).random((1 + i, 3), "f4") for i, u in enumerate(ids)}
    cache = make_cache(root / "here", data, precision=precision)
    export_hdf5(cache, root / "x.h5")
    import_features(root / "x.h5", root / "there", "whisper")
    assert_same_cache(cache, FeatureCache.open(root / "there", "whisper"))
    shutil.rmtree(root)


def test_importing_the_module_needs_no_torch():
    code = "import sys, cache.exchange; assert not {'torch', 'safetensors'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
