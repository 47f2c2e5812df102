"""The cache in an object store, against a real S3 server of this machine (moto)."""

import os
import re
import shutil
import threading
import uuid
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ser.cache.features import FeatureCache
from ser.cache.reader import BatchReader, FeatureInput
from ser.cache.remote import Remote, Root, StorageError
from ser.cache.transcripts import Transcript, TranscriptCache
from ser.cache.upkeep import content, every_folder, remove, repair
from ser.cache.urls import check_url, is_url, without_secrets
from ser.corpus.errors import UserError
from tests.cache.factories import SPEC, make_cache, ragged

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def endpoint():
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def store(endpoint):
    """Look at what is there, and spoil it."""
    return s3fs.S3FileSystem(
        endpoint_url=endpoint, key="key", secret="secret", use_listings_cache=False
    )


@pytest.fixture
def settings(endpoint, monkeypatch, tmp_path):
    s3 = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    for name, value in (s3 | {"SER_MIRROR": str(tmp_path / "mirror")}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def new_client():
    """Connect with the settings of this test: fsspec keeps what it has connected."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(store, settings):
    name = f"b{uuid.uuid4().hex[:12]}"
    store.mkdir(name)
    return name


@pytest.fixture
def root(bucket):
    return f"s3://{bucket}/deep/cache"


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Go on as on another machine: with an empty mirror."""
    return lambda name: monkeypatch.setenv("SER_MIRROR", str(tmp_path / name))


@pytest.fixture
def remote(root, tmp_path):
    return Remote(f"{root}/whisper/f00", tmp_path / "here")


def fill(store, remote, files):
    store.pipe({f"{remote.url}/{name}": content for name, content in files.items()})


def files_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def same_frames(cache, data):
    for utterance, frames in data.items():
        np.testing.assert_array_equal(cache.frames(utterance, True), frames.astype(np.float16))


def test_a_url_is_distinguished_from_a_folder(tmp_path):
    assert is_url("s3://bucket/cache")
    assert not is_url(tmp_path)
    assert not is_url("C:/cache")


def test_a_folder_is_its_own_place(tmp_path):
    (tmp_path / "w" / "f0").mkdir(parents=True)
    (tmp_path / "w" / "torn").mkdir()
    (tmp_path / "w" / "f0" / "feature.json").touch()
    root = Root(tmp_path)
    assert (root.local, root.url) == (tmp_path, None)
    assert root.folder("w", "f1") == (tmp_path / "w" / "f1", None)
    assert root.folders() == root.folders("w") == [(tmp_path / "w" / "f0", None)]
    assert root.folders("x") == []


def test_a_slash_at_the_end_of_the_url_changes_nothing(root):
    assert Root(root + "/").local == Root(root).local
    assert Root(root + "/").folder("w", "f0")[1].url == f"{root}/w/f0"
    assert Root(root + "2").local != Root(root).local


def test_folders_are_those_with_a_feature_json_now(root, store):
    store.pipe({f"{root}/{name}/feature.json": b"{}" for name in ("w/f1", "w/f0", "t/f2")})
    store.pipe(f"{root}/w/torn/index.parquet", b"")
    root_folder = Root(root).local
    assert [path for path, _ in Root(root).folders()] == [
        root_folder / "t/f2",
        root_folder / "w/f0",
        root_folder / "w/f1",
    ]
    store.pipe(f"{root}/w/f1/feature.json", b'{"new": 1}')
    store.rm(f"{root}/w/f0/feature.json")
    ((path, remote),) = Root(root).folders("w")
    assert (path, remote.url, remote.local) == (root_folder / "w/f1", f"{root}/w/f1", path)
    assert (path / "feature.json").read_bytes() == b'{"new": 1}'
    assert Root(root).folders("nothing") == []


def test_a_file_is_fetched_once_or_again_and_leaves_no_part(remote, store):
    assert not remote.fetch("a/b.json")
    fill(store, remote, {"a/b.json": b"old"})
    assert remote.fetch("a/b.json")
    fill(store, remote, {"a/b.json": b"new"})
    assert remote.fetch("a/b.json")
    assert (remote.local / "a" / "b.json").read_bytes() == b"old"
    assert remote.fetch("a/b.json", again=True)
    assert (remote.local / "a" / "b.json").read_bytes() == b"new"
    store.rm(f"{remote.url}/a/b.json")
    assert not remote.fetch("a/b.json", again=True)
    assert files_below(remote.local) == ["a/b.json"]


def test_committed_lists_what_is_whole_and_is_never_stale(remote, store):
    assert remote.committed("data.zarr") == set()
    whole = {"data.zarr/zarr.json", "data.zarr/s1/zarr.json", "data.zarr/s1/row/zarr.json"}
    torn = {"data.zarr/s2/row/zarr.json", "data.zarr/s2/frames/c/0/0"}
    parts = {"data/p1.parquet", "data/p2.parquet", "data/p3.txt", "data/deeper/p4.parquet"}
    fill(store, remote, dict.fromkeys(whole | torn | parts, b"x"))
    assert remote.committed("data.zarr") == {"s1"}
    assert remote.committed("data") == {"p1", "p2"}
    fill(store, remote, {"data.zarr/s2/zarr.json": b"x"})
    assert remote.committed("data.zarr") == {"s1", "s2"}
    store.rm(f"{remote.url}/data.zarr/s1/zarr.json")
    assert remote.committed("data.zarr") == {"s2"}


def test_a_tree_is_fetched_without_what_is_left_or_here(remote, store):
    names = ["zarr.json", "row/zarr.json", "row/c/0", "frames/zarr.json", "frames/c/0/0"]
    fill(store, remote, {f"d/s/{name}": name.encode() for name in names})
    fill(store, remote, {"d/s2/zarr.json": b"a neighbour whose name begins alike"})
    remote.fetch_tree("d/s", leave=["frames/c"])
    assert files_below(remote.local / "d") == sorted(f"s/{n}" for n in names if "frames/c" not in n)
    (remote.local / "d/s/row/c/0").write_bytes(b"kept")
    remote.fetch_tree("d/s")
    assert files_below(remote.local / "d") == sorted(f"s/{name}" for name in names)
    assert (remote.local / "d/s/frames/c/0/0").read_bytes() == b"frames/c/0/0"
    assert (remote.local / "d/s/row/c/0").read_bytes() == b"kept"


def test_a_torn_fetch_has_no_zarr_json_and_is_repaired_by_the_next(remote, store):
    fill(store, remote, {"s/zarr.json": b"x", "s/row/c/0": b"x", "s/row/zarr.json": b"x"})
    (remote.local / "s").mkdir(parents=True)
    (remote.local / "s" / "row").write_bytes(b"in the way")
    with pytest.raises(StorageError, match="repair or make room for the mirror"):
        remote.fetch_tree("s")
    assert files_below(remote.local) == ["s/row"]
    (remote.local / "s" / "row").unlink()
    remote.fetch_tree("s")
    assert files_below(remote.local) == ["s/row/c/0", "s/row/zarr.json", "s/zarr.json"]


def test_a_fetch_that_fails_leaves_no_part(remote, store):
    fill(store, remote, {"a.json": b"x"})
    (remote.local / "a.json" / "full").mkdir(parents=True)
    with pytest.raises(StorageError, match="Directory not empty"):
        remote.fetch("a.json", again=True)
    assert [p.name for p in remote.local.iterdir()] == ["a.json"]


def test_the_empty_folders_of_a_web_console_are_not_files(remote, store):
    bucket, _, key = f"{remote.url}/s/".removeprefix("s3://").partition("/")
    fill(store, remote, {"s/zarr.json": b"x"})
    for folder in (key, f"{key}row/"):
        store.call_s3("put_object", Bucket=bucket, Key=folder, Body=b"")
    remote.fetch_tree("s")
    assert files_below(remote.local) == ["s/zarr.json"]


def test_a_folder_name_that_leads_out_of_the_mirror_is_not_followed(remote, store):
    fill(store, remote, {"s/../../out": b"x", "s/zarr.json": b"x"})
    remote.fetch_tree("s")
    assert files_below(remote.local.parent / "here") == ["s/zarr.json"]
    assert not (remote.local.parent / "out").exists()


def test_upload_and_delete(remote, store, tmp_path):
    for name in ("zarr.json", "row/zarr.json", "row/c/0"):
        (tmp_path / "shard" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shard" / name).write_text(name)
    remote.upload(tmp_path / "shard", "d/s")
    remote.upload(tmp_path / "shard" / "zarr.json", "d/p.parquet")
    assert remote.committed("d") == {"s", "p"}
    assert remote.nbytes("d") == sum(
        map(len, ["zarr.json", "row/zarr.json", "row/c/0", "zarr.json"])
    )
    remote.fetch_tree("d")
    for name in ("zarr.json", "row/zarr.json", "row/c/0"):
        assert (remote.local / "d" / "s" / name).read_text() == name
    remote.delete("d/s")
    assert store.find(remote.url) == [f"{remote.url}/d/p.parquet".removeprefix("s3://")]
    assert files_below(remote.local) == ["d/p.parquet"]
    remote.delete("d/p.parquet")
    remote.delete("d/p.parquet")
    assert files_below(remote.local) == []
    remote.upload(tmp_path / "shard", "e/s")
    remote.delete("")
    assert store.find(remote.url) == []


def test_a_remote_cache_is_a_zarr_group_without_its_mirror(root, tmp_path, monkeypatch):
    data = ragged(0, 3)
    make_cache(root, data)
    monkeypatch.setenv("SER_MIRROR", str(tmp_path / "other"))
    cache = FeatureCache.open(root, "whisper")
    ((_, shard),) = cache.group.groups()
    rows = np.concatenate([data[u] for u in ("u0", "u1", "u2")]).astype(np.float16)
    np.testing.assert_array_equal(shard["frames"][:], rows)
    assert not list((tmp_path / "other").rglob("data.zarr"))
    empty = FeatureCache.create(root, "empty", {}, {"item_shape": [8]})
    with pytest.raises(StorageError, match=r"empty/\w+/data\.zarr: "):
        _ = empty.group


def test_an_upload_cut_short_has_no_zarr_json(remote, tmp_path):
    (tmp_path / "shard" / "row").mkdir(parents=True)
    for name in ("zarr.json", "row/c", "row/\udcff"):  # the last no key in S3 can spell
        (tmp_path / "shard" / name).write_text("x")
    with pytest.raises(OSError, match="surrogates not allowed"):
        remote.upload(tmp_path / "shard", "d/s")
    assert remote.committed("d") == set()
    (tmp_path / "shard" / "row" / "\udcff").unlink()
    remote.upload(tmp_path / "shard", "d/s")
    assert remote.committed("d") == {"s"}


def test_put_sends_the_file_of_the_mirror(remote, store):
    remote.local.mkdir()
    (remote.local / "index.parquet").write_bytes(b"rows")
    remote.put("index.parquet")
    assert store.cat(f"{remote.url}/index.parquet") == b"rows"


def test_threads_share_a_remote(remote, store):
    names = [f"s{i}/row/c/{j}" for i in range(4) for j in range(8)]
    fill(store, remote, {name: name.encode() for name in names})
    threads = [threading.Thread(target=remote.fetch_tree, args=(f"s{i % 4}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: (remote.local / name).read_text() for name in names} == {n: n for n in names}
    assert files_below(remote.local) == sorted(names)


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_other_protocols_do_as_well(protocol, tmp_path, monkeypatch):
    monkeypatch.setenv("SER_MIRROR", str(tmp_path / "one"))
    root = f"{protocol}://{tmp_path}/far"
    data = ragged(0, 5)
    make_cache(root, data, shard_bytes=1)
    monkeypatch.setenv("SER_MIRROR", str(tmp_path / "two"))
    cache = FeatureCache.open(root, "whisper")
    same_frames(cache, data)
    for shard in cache.shards():
        cache.drop(shard)
    assert FeatureCache.open(root, "whisper").index().is_empty()


def message_of(root):
    with pytest.raises(UserError) as error:
        Root(root)
    return str(error.value)


UNSUPPORTED = "use a folder, s3://, gs:// or another of s3, s3a, gs, gcs, az, abfs, abfss, adl, oci"
NOWHERE = "it is not the URL of a cache; give one such as s3://bucket/cache."
SECRET = (
    "s3://…: a URL may have no user name, password or query, because it is written into "
    "runs; give them as AWS_PROFILE, in ~/.aws or ~/.config/fsspec."
)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense://b/c", f"nonsense://b/c: a cache cannot be kept in nonsense://; {UNSUPPORTED}"),
        ("ftp://me:secret@h/c", f"ftp://…@h/c: a cache cannot be kept in ftp://; {UNSUPPORTED}"),
        ("zip://a.zip", f"zip://a.zip: a cache cannot be kept in zip://; {UNSUPPORTED}"),
        ("github://o:r@c", f"github://…@c: a cache cannot be kept in github://; {UNSUPPORTED}"),
        ("http://h/c?secret=1", f"http://h/c?…: a cache cannot be kept in http://; {UNSUPPORTED}"),
        ("simplecache::s3://b/c", f"simplecache::s3://b/c: {NOWHERE}"),
        ("://", f"://: {NOWHERE}"),
        ("s3://", f"s3://: {NOWHERE}"),
        ("S3://b", f"S3://b: {NOWHERE}"),
        ("s3://me:secret@b/c", SECRET),
        ("s3://me:sec/ret@b/c", SECRET),
        ("s3://secret@b/c", SECRET),
        ("s3://b/c?X-Amz-Signature=secret", SECRET),
        ("s3://b/c#secret", SECRET),
        (f"s3://b/{'x' * 2000}", "s3://b/xxx"),
        ("s3://b/\x1b[31m", "s3://b/"),
        ("sftp://127.0.0.1:1/x", "sftp://127.0.0.1:1/x: it cannot be opened ("),
    ],
)
def test_what_is_no_place_for_a_cache_is_reported_in_one_sentence(
    tmp_path, monkeypatch, url, message
):
    monkeypatch.setenv("SER_MIRROR", str(tmp_path))
    sentence = message_of(url)
    assert sentence.startswith(message)
    assert "secret" not in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("root", ["s3:/me:secret@b/c", Path("s3://me:secret@b/c"), "http:x"])
def test_a_damaged_url_is_not_taken_for_a_folder(root):
    with pytest.raises(UserError) as error:
        Root(root)
    assert str(error.value).partition(";")[0].partition(":…: ")[2] == (
        "it is neither a folder nor the URL of a cache"
    )
    assert "secret" not in str(error.value)
    assert Root("C:/cache").local == Path("C:/cache")
    assert Root("note:1/cache").local == Path("note:1/cache")


def test_an_account_is_not_a_secret():
    check_url("abfss://container@account.dfs.core.windows.net/cache")
    with pytest.raises(UserError, match="a URL may have no user name, password"):
        check_url("abfss://container:key@account.dfs.core.windows.net/cache")


def test_texts_are_printed_without_secrets():
    assert without_secrets("no") == "no"
    assert without_secrets("at http://me:pw@h:9/p?sig=x: bad") == "at http://…@h:9/p?… bad"
    assert without_secrets("s3://b/c") == "s3://b/c"


def test_no_bucket_is_reported_in_one_sentence(settings):
    absent = f"s3://b{uuid.uuid4().hex}/cache"
    bucket = absent.split("/")[2]
    expected = (
        f"{absent}: there is no bucket '{bucket}'; make it, or check the URL and AWS_ENDPOINT_URL."
    )
    assert message_of(absent) == expected


def test_no_credentials_are_reported_in_one_sentence(root, monkeypatch, new_client):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert message_of(root) == (
        f"{root}: Unable to locate credentials; check the network, AWS_ENDPOINT_URL and the "
        "credentials (AWS_PROFILE or the keys)."
    )


def test_no_server_is_reported_in_one_sentence(root, monkeypatch, new_client):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert re.fullmatch(
        re.escape(root) + r": Could not connect to the endpoint URL: \S+; check the network, "
        r"AWS_ENDPOINT_URL and the credentials \(AWS_PROFILE or the keys\)\.",
        message_of(root),
    )


def test_a_mirror_that_cannot_be_made_is_reported_in_one_sentence(root, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SER_MIRROR", str(tmp_path / "file"))
    assert message_of(root).endswith(
        f": the mirror of {root} cannot be made (Not a directory); set SER_MIRROR to a folder "
        "that can be written."
    )


def test_another_machine_reads_what_was_written(root, elsewhere):
    data = ragged(0, 5)
    make_cache(root, data, shard_bytes=500)
    elsewhere("other")
    cache = FeatureCache.open(root, "whisper", SPEC)
    assert len(cache.shards()) > 1
    same_frames(cache, data)
    assert cache.verify() == []
    elsewhere("third")
    reader = BatchReader({"w": FeatureInput(FeatureCache.open(root, "whisper"))})
    for batch in reader.batches([["u3", "u0"], ["u4"]]):
        for i, utterance in enumerate(batch.utterances):
            frames = batch.frames["w"][i, : batch.lengths["w"][i]].numpy()
            np.testing.assert_array_equal(frames, data[utterance].astype(np.float16))


def test_a_new_mirror_reads_the_index_first_and_frames_only_when_needed(root, elsewhere):
    data = ragged(1, 3)
    make_cache(root, data, shard_bytes=1)
    elsewhere("other")
    cache = FeatureCache.open(root, "whisper")
    assert sorted(cache.index()["utterance"]) == sorted(data)
    assert files_below(cache.path) == ["feature.json", "index.parquet"]
    cache.frames("u2")
    assert len(list((cache.path / "data.zarr").glob("*/frames/c/0/0"))) == 1


def test_without_an_index_the_small_arrays_are_fetched_and_no_frames(root, store, elsewhere):
    data = ragged(1, 3)
    opened_cache = make_cache(root, data, shard_bytes=1)
    store.rm(f"{opened_cache.remote.url}/index.parquet")
    elsewhere("other")
    cache = FeatureCache.open(root, "whisper")
    assert cache.index().equals(opened_cache.index())
    assert len(list((cache.path / "data.zarr").glob("*/row/c/0"))) == 3
    assert list((cache.path / "data.zarr").glob("*/frames/c")) == []


def test_two_machines_write_one_cache(root, elsewhere):
    one, two = ragged(0, 3), {f"v{i}": x for i, x in enumerate(ragged(1, 3).values())}
    about = {"item_shape": [8], "frame_rate": 50}
    first = FeatureCache.create(root, "whisper", SPEC, about)
    elsewhere("other")
    second = FeatureCache.create(root, "whisper", SPEC, about)
    assert first.path != second.path
    with first.writer(shard_bytes=1000) as a, second.writer(shard_bytes=1000) as b:
        for (u, x), (v, y) in zip(one.items(), two.items(), strict=True):
            a.append(u, x)
            b.append(v, y)
    elsewhere("third")
    for cache in (FeatureCache.open(root, "whisper"), FeatureCache(first.path, first.remote)):
        same_frames(cache, one | two)


def test_a_half_uploaded_shard_is_not_seen(root, store, elsewhere):
    cache = make_cache(root, ragged(2, 3), shard_bytes=1)
    torn = cache.index().filter(pl.col("utterance") == "u1")["shard"].item()
    store.rm(f"{cache.remote.url}/data.zarr/{torn}/zarr.json")
    assert sorted(FeatureCache(cache.path, cache.remote).index()["utterance"]) == ["u0", "u2"]
    elsewhere("other")
    assert sorted(FeatureCache.open(root, "whisper").index()["utterance"]) == ["u0", "u2"]


def test_what_could_not_be_sent_is_sent_by_the_next_writer(root, bucket, store, elsewhere):
    data = ragged(3, 2)
    cache = FeatureCache.create(root, "whisper", SPEC, {"item_shape": [8], "frame_rate": 50})
    with pytest.raises(OSError, match=bucket), cache.writer() as writer:
        for utterance, frames in data.items():
            writer.append(utterance, frames, 1, 2)
        store.rm(bucket, recursive=True)
    (pending,) = cache.staging.glob("unsent-*")
    assert (pending / "zarr.json").exists()
    store.mkdir(bucket)
    make_cache(root, {"u2": np.ones((3, 8), np.float32)})
    elsewhere("other")
    same_frames(FeatureCache.open(root, "whisper"), data | {"u2": np.ones((3, 8))})
    assert not list(cache.staging.glob("unsent-*"))


def test_a_dropped_shard_is_gone_everywhere(root, elsewhere):
    cache = make_cache(root, ragged(4, 2), shard_bytes=1)
    gone = cache.index().filter(pl.col("utterance") == "u0")["shard"].item()
    cache.drop(gone)
    assert cache.index()["utterance"].to_list() == ["u1"]
    assert not (cache.path / "data.zarr" / gone).exists()
    elsewhere("other")
    assert FeatureCache.open(root, "whisper").index()["utterance"].to_list() == ["u1"]


def test_a_removed_feature_is_gone_everywhere(root, store):
    make_cache(root, ragged(4, 2))
    (folder,) = every_folder(root)
    assert content(folder).nbytes > 0
    remove(folder)
    assert store.find(root) == []
    assert list(every_folder(root)) == []


def test_failures_are_seen_elsewhere(root, elsewhere):
    cache = make_cache(root, ragged(5, 1))
    cache.record({"bad": "no audio"})
    elsewhere("other")
    assert FeatureCache.open(root, "whisper").failed()["utterance"].to_list() == ["bad"]


def test_a_mirror_that_was_deleted_is_filled_again(root):
    data = ragged(6, 4)
    cache = make_cache(root, data)
    shutil.rmtree(os.environ["SER_MIRROR"])
    again = FeatureCache.open(root, "whisper")
    assert again.path == cache.path
    same_frames(again, data)


def test_transcripts_are_kept_there_too(root, elsewhere):
    cache = TranscriptCache.create(root, "transcripts", {"kind": "asr"}, {})
    with cache.writer(part_rows=2) as writer:
        for i in range(5):
            writer.append(f"u{i}", Transcript(f"words {i}", -0.5, 0.01, "en"), 1, 2)
    elsewhere("other")
    again = TranscriptCache.open(root, "transcripts", {"kind": "asr"})
    assert again.texts(["u4", "none", "u0"]) == ["words 4", None, "words 0"]
    assert not (again.path / "data").exists()
    assert again.verify() == []
    assert len(list((again.path / "data").glob("*.parquet"))) == 3


def test_a_damaged_mirror_is_fetched_again_and_damaged_storage_repaired(root, store):
    data = ragged(7, 3)
    cache = make_cache(root, data)
    (shard,) = cache.shards()
    chunk = f"data.zarr/{shard}/frames/c/0/0"
    path = cache.path / chunk
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert FeatureCache.open(root, "whisper").verify() == []
    assert path.read_bytes() == whole
    store.pipe({f"{cache.location}/{chunk}": bytes([whole[0] ^ 1]) + whole[1:]})
    path.unlink()
    damaged = FeatureCache.open(root, "whisper")
    damages = damaged.verify()
    assert [d.utterances for d in damages] == [["u0"]]
    assert repair(damaged, damages) == ["u0"]
    repaired = FeatureCache.open(root, "whisper")
    assert repaired.verify() == []
    assert sorted(repaired.index()["utterance"]) == ["u1", "u2"]


def test_storage_that_is_not_reached_is_not_damage(root, monkeypatch):
    cache = make_cache(root, ragged(8, 2))
    shutil.rmtree(cache.path / "data.zarr")

    def unreached(*_, **__):
        raise StorageError("not reached.")

    monkeypatch.setattr(cache.remote, "fetch_tree", unreached)
    with pytest.raises(StorageError):
        cache.verify()
