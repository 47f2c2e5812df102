"""Features on the hub: pulled into a clean cache they are the same; damaged ones are refused."""

import hashlib
import json
import re

import pytest

from ser.cache.features import FeatureCache
from ser.cache.hub import HubRepo
from ser.cache.hub_features import pull_feature, push_feature
from ser.corpus.errors import UserError
from tests.cache.factories import assert_same_cache, flip, frames_file, make_cache, ragged

DATA = ragged(0, 5)


@pytest.fixture
def repo():
    return HubRepo.parse("hf:anna/frames", "feature")


@pytest.fixture
def pushed(hub, repo, tmp_path):
    """Return a cache that was pushed."""
    cache = make_cache(tmp_path / "ours", DATA)
    push_feature(cache, repo, "# Frames\n")
    return cache


def edit(hub, place, content):
    """Replace a file, and its sha256 and size in ser.json."""
    files = hub.files("datasets", "anna/frames")
    record = json.loads(files["ser.json"])
    record.pop("crc32c", None)
    record["files"][place] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    hub.commit("datasets", "anna/frames", {place: content, "ser.json": json.dumps(record).encode()})


def refused(repo, root):
    with pytest.raises(UserError) as error:
        pull_feature(repo, root)
    assert "\n" not in str(error.value)
    assert str(root.parent) not in re.sub(r"delete \S+", "", str(error.value))
    return str(error.value)


def test_a_pulled_feature_is_the_one_that_was_pushed(hub, repo, pushed, tmp_path):
    pulled = pull_feature(repo, tmp_path / "theirs")
    assert (pulled.feature, pulled.fingerprint) == ("whisper", pushed.fingerprint)
    assert (pulled.utterances, pulled.new_shards) == (5, 1)
    theirs = FeatureCache.open(tmp_path / "theirs", "whisper")
    assert theirs.verify() == []
    assert_same_cache(theirs, pushed)
    for utterance in DATA:
        assert (theirs.frames(utterance) == pushed.frames(utterance)).all()
    assert pull_feature(repo, tmp_path / "theirs").new_shards == 0


def test_no_name_of_this_machine_is_pushed(hub, pushed):
    (shard,) = pushed.shards()
    host, _, random = shard.rsplit("-", 2)
    names = set(hub.files("datasets", "anna/frames"))
    assert {name.split("/")[1] for name in names if name.count("/") > 1} == {f"hub-0-{random}"}
    assert not any(host in name for name in names)
    assert all(host.encode() not in data for data in hub.files("datasets", "anna/frames").values())


def test_a_damaged_feature_is_not_pushed(hub, repo, tmp_path):
    cache = make_cache(tmp_path / "ours", DATA)
    flip(frames_file(cache), 0)
    with pytest.raises(UserError, match="are damaged; run `ser cache verify whisper --repair`"):
        push_feature(cache, repo, "")
    assert not hub.repos


def test_damage_that_fits_its_sha256_is_refused_before_it_is_in_the_cache(
    hub, repo, pushed, tmp_path
):
    files = hub.files("datasets", "anna/frames")
    (frames,) = [place for place in files if place.endswith("frames/c/0/0")]
    data = files[frames]
    edit(hub, frames, bytes([data[0] ^ 1]) + data[1:])
    assert "the frames of 1 utterance are damaged; ask its owner" in refused(repo, tmp_path / "x")
    edit(hub, frames, data[:100])
    assert "ask its owner to push it again" in refused(repo, tmp_path / "x")
    hub.commit("datasets", "anna/frames", {frames: data})
    assert "is not that in ser.json" in refused(repo, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("array", ["frames", "length"])
def test_a_shard_that_needs_a_codec_is_refused(hub, repo, pushed, tmp_path, array):
    files = hub.files("datasets", "anna/frames")
    (place,) = [place for place in files if place.endswith(f"/{array}/zarr.json")]
    metadata = json.loads(files[place])
    metadata["codecs"].append({"name": "zstd", "configuration": {"level": 1, "checksum": False}})
    edit(hub, place, json.dumps(metadata).encode())
    assert ": another program has written it; ask its owner to" in refused(repo, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_record_of_other_files_is_refused(hub, repo, pushed, tmp_path):
    metadata = json.loads(hub.files("datasets", "anna/frames")["feature.json"])
    del metadata["crc32c"]
    edit(hub, "feature.json", json.dumps(metadata | {"feature": "other"}).encode())
    assert "feature.json has another name than ser.json" in refused(repo, tmp_path / "x")
    edit(hub, "feature.json", json.dumps(metadata | {"fingerprint": "../x"}).encode())
    assert "feature.json: it is damaged; ask its owner" in refused(repo, tmp_path / "x")
    edit(hub, "index.parquet", b"x")
    assert "it has index.parquet, so it is not a feature" in refused(repo, tmp_path / "x")
    assert not (tmp_path / "x").exists()
