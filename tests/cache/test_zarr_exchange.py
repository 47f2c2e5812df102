"""Features to Zarr stores and from those of any writer: the same numbers, or named."""

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr
from numcodecs import Delta, Pickle
from zarr.codecs import BloscCodec, GzipCodec

from ser.cache.arrays import ArrayNames
from ser.cache.exchange import Report, import_features
from ser.cache.features import FeatureCache
from ser.cache.zarr_export import export_zarr
from ser.cache.zarr_store import open_array, read
from ser.corpus.errors import Note, UserError
from tests.cache.factories import (
    ODD,
    SPEC,
    assert_same_cache,
    flip,
    frames_file,
    make_cache,
    ragged,
)


def write_ragged(folder, data, **options):
    """Write arrays back to back, as another program would: frames, lengths and ids as strings."""
    group = zarr.open_group(folder, mode="w", **options)
    group.create_array("frames", data=np.concatenate(list(data.values())), chunks=(7, 8))
    group.create_array("lengths", data=np.array([len(x) for x in data.values()]))
    ids = group.create_array("ids", shape=(len(data),), dtype=str)
    ids[:] = np.array(list(data))
    return folder


def imported(source, root, **options):
    report = import_features(source, root, "mine", frame_rate=50, precision="float32", **options)
    return report, FeatureCache.open(root, "mine")


def assert_holds(cache, data):
    assert sorted(cache.index()["utterance"]) == sorted(data)
    for utterance, frames in data.items():
        np.testing.assert_array_equal(cache.frames(utterance, check=True), frames)


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_a_round_trip_gives_the_same_cache(tmp_path, precision):
    cache = make_cache(tmp_path / "here", ragged(0, 12), precision=precision, shard_bytes=999)
    assert export_zarr(cache, tmp_path / "x.zarr") == Report(cache.fingerprint, count=12)
    report = import_features(tmp_path / "x.zarr", tmp_path / "there", "whisper")
    assert report == Report(cache.fingerprint, count=12)
    again = FeatureCache.open(tmp_path / "there", "whisper", SPEC)
    assert_same_cache(cache, again)
    assert again.verify() == []
    report = import_features(tmp_path / "x.zarr", tmp_path / "there", "whisper")
    assert report == Report(cache.fingerprint, skipped=12)


def test_layers_odd_ids_and_what_float16_cannot_hold_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr("ser.cache.zarr_export.CHUNK_BYTES", 200)  # chunks of 4 frames
    data = {u: np.full((3 + i, 3, 4), i, np.float32) for i, u in enumerate(ODD)}
    data["large"] = np.full((2, 3, 4), 1e5, np.float32)
    cache = make_cache(tmp_path / "here", data)
    export_zarr(cache, tmp_path / "x.zarr")
    report = import_features(tmp_path / "x.zarr", tmp_path / "there", "whisper")
    assert (report.count, report.overflowed, report.failed) == (len(data), 1, {})
    assert_same_cache(cache, FeatureCache.open(tmp_path / "there", "whisper"))


def test_zarr_python_and_tensorstore_read_an_export(tmp_path):
    data = ragged(1, 5)
    cache = make_cache(tmp_path / "here", data)
    export_zarr(cache, tmp_path / "x.zarr")
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    attributes = dict(group.attrs)
    assert attributes == {
        "format": "ser-features-zarr/1",
        "feature": "whisper",
        "fingerprint": cache.fingerprint,
        "spec": SPEC,
        "about": {"item_shape": [8], "frame_rate": 50},
        "item_shape": [8],
        "frame_rate": 50.0,
        "precision": "float16",
    }
    ids = [bytes(row).rstrip(b"\0").decode() for row in group["utterance"][:]]
    offsets = group["offsets"][:]
    place = {"driver": "zarr3", "kvstore": f"file://{tmp_path}/x.zarr/frames"}
    for frames in (group["frames"][:], tensorstore.open(place).result().read().result()):
        for i, utterance in enumerate(ids):
            read = frames[offsets[i] : offsets[i + 1]]
            np.testing.assert_array_equal(read, cache.frames(utterance))


def test_damaged_rows_are_left_out_of_an_export_and_named(tmp_path):
    data = ragged(0, 6)
    cache = make_cache(tmp_path, data)
    file = frames_file(cache)
    flip(file, len(data["u0"]) * 16)  # the first byte of u1
    report = export_zarr(FeatureCache(cache.path), tmp_path / "x.zarr")
    assert report.failed == {"u1": f"{file.parents[3]}: the frames are damaged"}
    report = import_features(tmp_path / "x.zarr", tmp_path / "there", "whisper")
    assert (report.count, report.failed) == (5, {})
    frames = zarr.open_array(tmp_path / "x.zarr" / "frames")
    assert frames.shape[0] == sum(len(x) for u, x in data.items() if u != "u1")


def test_an_export_replaces_an_export_and_nothing_else(tmp_path):
    cache = make_cache(tmp_path / "here", ragged(0, 2))
    for folder in ("x.zarr", "x.zarr", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert export_zarr(cache, tmp_path / folder).count == 2
    (tmp_path / "file").write_text("mine")
    write_ragged(tmp_path / "theirs", ragged(0, 2))
    for name, problem in (
        ("here", "the folder holds something else; export to another name."),
        ("theirs", "the folder holds something else; export to another name."),
        ("file", "it is a file; export to another name."),
    ):
        with pytest.raises(UserError) as error:
            export_zarr(cache, tmp_path / name)
        assert str(error.value) == f"{tmp_path / name}: {problem}"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["empty", "file", "here", "theirs", "x.zarr"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_one_array_with_lengths_is_imported(tmp_path, zarr_format):
    data = ragged(2, 6)
    source = write_ragged(tmp_path / "x.zarr", data, zarr_format=zarr_format)
    report, cache = imported(source, tmp_path / "c")
    assert (report.count, report.failed) == (6, {})
    assert_holds(cache, data)
    assert imported(source, tmp_path / "c")[0].skipped == 6


@pytest.mark.parametrize("extra", [0, 1])
def test_one_array_with_offsets_and_other_names_is_imported(tmp_path, extra):
    data = ragged(2, 6)
    group = zarr.open_group(tmp_path / "x.zarr", mode="w").create_group("train")
    frames = np.concatenate(list(data.values()))
    group.create_array(
        "hidden", data=frames, chunks=(5, 8), shards=(20, 8), compressors=[BloscCodec()]
    )
    ends = np.cumsum([len(x) for x in data.values()])
    group.create_array("at", data=np.array([0, *ends[: 5 + extra]], np.uint32))
    group.create_array("who", data=np.array([u.encode() for u in data]))
    names = ArrayNames(frames="hidden", offsets="at", ids="who")
    report, cache = imported(tmp_path / "x.zarr", tmp_path / "c", names=names)
    assert (report.count, report.failed) == (6, {})
    assert_holds(cache, data)
    with pytest.raises(UserError) as error:
        imported(tmp_path / "x.zarr", tmp_path / "c", names=ArrayNames(frames="states"))
    assert str(error.value) == (
        f"{tmp_path / 'x.zarr'}: no group has arrays of the given names, with ids and with lengths "
        "or offsets; the arrays are train/at, train/hidden, train/who."
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_one_array_an_utterance_is_imported_also_from_a_zip(tmp_path, zarr_format, packed):
    data = {"s1/a": np.ones((3, 4), "f4"), "s1/b": np.full((2, 4), 2, ">f4"), "c": np.zeros((1, 4))}
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=zarr_format)
    for utterance, frames in data.items():
        group.create_array(utterance, data=frames, config={"write_empty_chunks": True})
    source = tmp_path / "x.zarr"
    if packed:
        source = tmp_path / "x.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((tmp_path / "x.zarr").rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(tmp_path / "x.zarr"))
    report, cache = imported(source, tmp_path / "c")
    assert (report.count, report.failed) == (3, {})
    assert_holds(cache, data)


def test_each_bad_array_is_named_and_harms_no_other(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    good = {"a": np.ones((2, 4), "f4"), "zz": np.ones((1, 4), "f4")}
    bad = {
        "dim": np.ones((2, 5), "f4"),
        "four": np.ones((2, 4, 1, 1), "f4"),
        "inf": np.full((2, 4), np.inf, "f4"),
        "nan": np.full((2, 4), np.nan, "f4"),
        "text": np.array(["a", "b"]),
    }
    for utterance, frames in (good | bad).items():
        group.create_array(utterance, data=frames)
    for name, shape, chunks in (
        ("large", (10**9, 10**9), (1, 4)),
        ("lost", (9, 4), (4, 4)),
        ("small", (10**6, 4), (1, 1)),
        ("wide", (2, 4), (10**6, 10**6)),
    ):
        group.create_array(name, shape=shape, chunks=chunks, dtype="f4")
    group["lost"][:4] = 1
    group.create_array("delta", data=np.ones((2, 4), "i4"), filters=[Delta(dtype="i4")])
    for name, key, value in (
        ("json", "filters", [{"id": "json2"}]),
        ("pickle", "filters", [{"id": "pickle"}]),
        ("broken", "shape", "many"),
    ):
        group.create_array(name, data=np.ones((2, 4), "f4"))
        file = tmp_path / "x.zarr" / name / ".zarray"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    (tmp_path / "x.zarr" / "pickle" / "0.0").write_bytes(Pickle().encode(np.array([print])))
    (tmp_path / "x.zarr" / "cut").mkdir()
    (tmp_path / "x.zarr" / "cut" / ".zarray").write_text('{"zarr_format": 2, ')
    report, cache = imported(tmp_path / "x.zarr", tmp_path / "c")
    assert_holds(cache, good | {"delta": np.ones((2, 4))})
    reasons = {
        u: why.removeprefix(f"{tmp_path / 'x.zarr' / u}: ") for u, why in report.failed.items()
    }
    assert reasons.keys() == bad.keys() | {
        *("large", "lost", "small", "wide", "json", "pickle", "broken", "cut")
    }
    assert reasons["lost"] == (
        "not readable (a chunk is not stored, which Zarr would read as the fill value (chunks of "
        "zeros are stored by write_empty_chunks))"
    )
    assert reasons["large"].startswith(
        "not readable (its shape (1000000000, 1000000000) of float32"
    )
    assert reasons["wide"].startswith("not readable (its chunks of shape (1000000, 1000000) are")
    assert reasons["small"] == "not readable (its chunks of shape (1, 1) are more than 1,000,000)"
    assert reasons["pickle"].startswith("not readable (its codec 'pickle' is not one of adler32,")
    assert reasons["json"].startswith("not readable (its codec 'json2' is not one of adler32,")
    assert reasons["cut"].startswith("not readable (cut/.zarray: it is not valid JSON (")
    assert reasons["nan"] == reasons["inf"] == "the features hold NaN or infinite values"
    assert reasons["four"] == (
        "its shape (2, 4, 1, 1) is not (frames, dim) with one frame or more, or (dim,)"
    )


def test_damaged_utterances_of_one_array_are_named_and_the_others_are_imported(tmp_path):
    data = ragged(3, 6, longest=12) | {"u6": np.ones((7, 8), np.float32)}
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    frames = group.create_array("frames", data=np.concatenate(list(data.values())), chunks=(1, 8))
    lengths = np.array([len(x) for x in data.values()])
    starts = np.cumsum(lengths) - lengths
    lengths[1], starts[2] = 0, -4
    lengths[3] = 10**6
    group.create_array("offsets", data=starts)
    group.create_array("lengths", data=lengths)
    ids = group.create_array("ids", shape=(7,), dtype=str)
    ids[:] = np.array(["u0", "u1", "u2", "u3", "u4", "u4", ""])
    (tmp_path / "x.zarr" / "frames" / "c" / "0" / "0").unlink()
    assert frames.shape[0] == sum(map(len, data.values()))
    report, cache = imported(tmp_path / "x.zarr", tmp_path / "c")
    assert_holds(cache, {"u4": data["u4"]})
    reasons = {
        u: why.removeprefix(f"{tmp_path / 'x.zarr' / 'frames'}: not readable (")[:-1]
        for u, why in report.failed.items()
    }
    assert reasons == {
        "u0": "a chunk is not stored, which Zarr would read as the fill value (chunks of zeros are "
        "stored by write_empty_chunks)",
        "u1": f"there are no rows {starts[1]} to {starts[1]}",
        "u2": f"there are no rows -4 to {lengths[2] - 4}",
        "u3": f"there are no rows {starts[3]} to {starts[3] + 10**6}",
        "ids[5]": "the id 'u4' appears twice",
        "ids[6]": "the id is not a text of 1 to 1,000 characters",
    }


def test_metadata_that_is_too_large_is_not_read(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    for name in "ab":
        group.create_array(name, data=np.ones((2, 4), "f4"))
    with (tmp_path / "x.zarr/a/.zattrs").open("wb") as file:
        file.truncate(2**24 + 1)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((tmp_path / "x.zarr").rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(tmp_path / "x.zarr"))
    for source in (tmp_path / "x.zarr", tmp_path / "x.zip"):
        report, cache = imported(source, tmp_path / f"cache of {source.name}")
        assert report.failed == {
            "a": f"{source / 'a'}: not readable (a/.zattrs is larger than 16,777,216 bytes)"
        }
        assert_holds(cache, {"b": np.ones((2, 4), np.float32)})


def make_group(folder, frames, ids, **arrays):
    group = zarr.open_group(folder, mode="w")
    for name, values in ({"frames": frames, "ids": ids} | arrays).items():
        group.create_array(name, data=values, config={"write_empty_chunks": True})
    return folder


@pytest.mark.parametrize(
    "arrays", [{}, {"lengths": np.array([2, 5, 3])}], ids=["alone", "with lengths"]
)
def test_padded_frames_are_refused_with_the_remedy(tmp_path, arrays):
    source = make_group(
        tmp_path / "x.zarr", np.ones((3, 5, 8)), np.array(["a", "b", "c"]), **arrays
    )
    with pytest.raises(UserError) as error:
        imported(source, tmp_path / "cache")
    assert str(error.value) == (
        f"{source / 'frames'}: its shape (3, 5, 8) is padded, a block for each of 3 utterances; "
        "write an array for each utterance, or the rows of all of them without the padding, with "
        "their `lengths`."
    )


def test_rows_without_lengths_are_refused_unless_they_are_one_for_each_utterance(tmp_path):
    frames = np.arange(24, dtype=np.float32).reshape(3, 8)
    source = make_group(tmp_path / "one.zarr", frames, np.array([7, 80, 9]))
    report, cache = imported(source, tmp_path / "cache")
    assert (report.count, report.failed) == (3, {})
    assert_holds(cache, {"7": frames[:1], "80": frames[1:2], "9": frames[2:]})
    source = make_group(tmp_path / "many.zarr", frames, np.array(["a", "b"]))
    with pytest.raises(UserError) as error:
        imported(source, tmp_path / "cache")
    assert str(error.value) == (
        f"{source / 'frames'}: it has 3 rows for 2 ids, without their lengths; add `lengths`, the "
        "number of frames of each utterance."
    )


def replaced(group, name, values):
    del group[name]
    group.create_array(name, data=values)


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("ids", np.ones(3), "ids: its type is float64, neither text nor integers"),
        ("ids", np.array(["a", "b"]), "ids: it has 2 ids, and there are 3 lengths or offsets"),
        ("lengths", np.ones(3), "lengths: it is float64 of shape (3,), not integers"),
        ("lengths", np.ones((3, 1), "i4"), "lengths: it is int32 of shape (3, 1), not integers"),
        (
            "lengths",
            np.full(3, 2**63 - 1),
            "lengths: a number in it is larger than 1,099,511,627,776",
        ),
        (
            "frames",
            np.ones(9),
            "frames: its shape is (9,) and its type float64, not (rows, dim) of",
        ),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence(tmp_path, name, values, problem):
    source = write_ragged(tmp_path / "x.zarr", ragged(0, 3))
    replaced(zarr.open_group(source), name, values)
    with pytest.raises(UserError) as error:
        imported(source, tmp_path / "c")
    assert str(error.value).startswith(f"{source}/{problem}")
    assert not (tmp_path / "c").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux")
def test_a_chunk_that_unpacks_to_far_more_than_it_states_is_one_sentence(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    for name in ("bomb", "good"):
        group.create_array(name, data=np.ones((4, 3), "f4"), compressors=[GzipCodec()])
    (tmp_path / "x.zarr/bomb/c/0/0").write_bytes(gzip.compress(bytes(1 << 29), 1))
    # in a process of its own: this one may have kept the memory of earlier tests
    program = """
import resource, sys
from pathlib import Path
from ser.cache import zarr_store
from ser.cache.exchange import import_features
zarr_store.ROOM = 1 << 28
before = resource.getrlimit(resource.RLIMIT_AS)
source, root = map(Path, sys.argv[1:])
report = import_features(source, root, "mine", frame_rate=50, precision="float32")
assert resource.getrlimit(resource.RLIMIT_AS) == before
print(*report.failed.values(), sep="\\n")
"""
    folders = [tmp_path / name for name in ("x.zarr", "cache")]
    command = [sys.executable, "-c", program, *map(str, folders)]
    failed = subprocess.check_output(command, cwd=Path.cwd(), text=True).splitlines()
    assert [error.partition("(")[2] for error in failed] == [
        "a chunk unpacks to far more than its stated size)"
    ]
    assert_holds(FeatureCache.open(folders[1], "mine"), {"good": np.ones((4, 3), np.float32)})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux")
def test_threads_that_read_leave_the_limit_of_memory_and_the_warnings_as_they_were(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    group.create_array("frames", data=np.ones((200, 3), "f4"), chunks=(1, 3))
    metadata = json.loads((tmp_path / "x.zarr/frames/zarr.json").read_text())
    before, filters = resource.getrlimit(resource.RLIMIT_AS), list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        shapes = pool.map(
            lambda start: (
                read(open_array(tmp_path / "x.zarr", "frames", metadata), start, start + 10).shape
            ),
            range(0, 190, 3),
        )
        assert set(shapes) == {(10, 3)}
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert warnings.filters == filters


def test_utterances_that_overlap_are_refused(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    group.create_array("frames", data=np.ones((9, 4)))
    group.create_array("offsets", data=np.arange(5))
    group.create_array("lengths", data=np.full(5, 5))
    group.create_array("ids", data=np.array(list("abcde"), "S1"))
    with pytest.raises(UserError, match=r"frames: the rows of its utterances overlap; write"):
        imported(tmp_path / "x.zarr", tmp_path / "c")


@pytest.mark.parametrize(("last", "total"), [(2, 8), (4, 10)])
def test_lengths_that_do_not_add_up_are_refused(tmp_path, last, total):
    source = write_ragged(tmp_path / "x.zarr", {u: np.ones((3, 8), "f4") for u in "abc"})
    replaced(zarr.open_group(source), "lengths", np.array([3, 3, last]))
    with pytest.raises(UserError) as error:
        imported(source, tmp_path / "c")
    problem = f"they add up to {total} rows, and the frames have 9"
    assert str(error.value) == f"{source / 'lengths'}: {problem}; write the store again."


def test_rows_that_no_utterance_has_are_counted(tmp_path):
    data = {u: np.full((3, 8), i, "f4") for i, u in enumerate("abc")}
    source = write_ragged(tmp_path / "x.zarr", data)
    group = zarr.open_group(source)
    replaced(group, "lengths", np.array([2, 3, 2]))
    group.create_array("offsets", data=np.array([1, 3, 6]))
    with pytest.warns(Note) as notes:
        report, cache = imported(source, tmp_path / "c")
    text = f"{source / 'frames'}: 2 rows of 9 left out, as no utterance has them."
    assert [str(note.message) for note in notes if note.category is Note] == [text]
    assert report.failed == {}
    assert_holds(cache, {"a": data["a"][1:], "b": data["b"], "c": data["c"][:2]})


def test_a_linked_folder_within_a_store_is_named(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    for name in "abc":
        group.create_array(name, data=np.ones((4, 3), "f4"))
    (tmp_path / "x.zarr/link").symlink_to("a")
    shutil.rmtree(tmp_path / "x.zarr/b/c")
    (tmp_path / "x.zarr/b/c").symlink_to("../a/c")
    report, cache = imported(tmp_path / "x.zarr", tmp_path / "cache")
    assert report.failed == {
        name: f"{tmp_path / 'x.zarr' / name}: not readable ({link} is a link to a folder; replace "
        "it by a copy)"
        for name, link in (("b", "b/c"), ("link", "link"))
    }
    assert_holds(cache, {name: np.ones((4, 3), np.float32) for name in "ac"})


def test_links_that_lead_out_and_pipes_are_refused(tmp_path):
    source = write_ragged(tmp_path / "x.zarr", ragged(0, 3))
    chunk = source / "frames" / "c" / "0" / "0"
    shutil.move(chunk, tmp_path / "secret")
    chunk.symlink_to(tmp_path / "secret")
    with pytest.raises(UserError) as error:
        imported(source, tmp_path / "c")
    assert str(error.value) == f"{chunk}: this link leads out of the store; replace it by a copy."
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(UserError, match="neither a file nor a folder; delete it"):
        imported(source, tmp_path / "c")


def test_a_flipped_bit_in_an_export_of_ours_is_found(tmp_path):
    cache = make_cache(tmp_path / "here", ragged(0, 4))
    export_zarr(cache, tmp_path / "x.zarr")
    flip(tmp_path / "x.zarr" / "frames" / "c" / "0" / "0", 5)
    report = import_features(tmp_path / "x.zarr", tmp_path / "there", "whisper")
    assert report.count == 0
    assert "not readable (" in report.failed["u0"]
    flip(tmp_path / "x.zarr" / "offsets" / "c" / "0", 5)
    with pytest.raises(UserError, match=r"offsets: not readable \("):
        import_features(tmp_path / "x.zarr", tmp_path / "again", "whisper")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("spec", {"kind": "text"}, "its spec and its fingerprint do not agree"),
        (
            "format",
            "ser-features-zarr/9",
            "its format is 'ser-features-zarr/9', not 'ser-features-",
        ),
        ("precision", "float8", "its attributes are damaged"),
    ],
)
def test_an_edited_export_is_refused(tmp_path, key, value, problem):
    cache = make_cache(tmp_path / "here", ragged(0, 2))
    export_zarr(cache, tmp_path / "x.zarr")
    zarr.open_group(tmp_path / "x.zarr").attrs[key] = value
    with pytest.raises(UserError) as error:
        import_features(tmp_path / "x.zarr", tmp_path / "there", "whisper")
    assert str(error.value).startswith(f"{tmp_path / 'x.zarr'}: not usable ({problem}")


def test_the_store_of_a_cache_is_merged_and_not_imported(tmp_path):
    cache = make_cache(tmp_path / "here", ragged(0, 2))
    with pytest.raises(UserError, match=r"copy it with `ser cache merge`"):
        import_features(cache.path / "data.zarr", tmp_path / "there", "mine", frame_rate=50)
