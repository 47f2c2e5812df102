"""`ser cache`: what it says, what it exits with, and that nothing else is touched."""

import shutil

import h5py
import numpy as np
import pytest
import typer
import zarr

from ser.cache.features import FeatureCache
from ser.commands import cache
from tests.ser.factories import make_corpus, ser

COUNT = 15


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "corpus"
    make_corpus(folder, COUNT)
    assert ser("extract", "--all", cwd=folder).returncode == 0
    return folder


@pytest.fixture
def corpus(extracted, tmp_path):
    shutil.copytree(extracted, tmp_path / "corpus")
    return tmp_path / "corpus"


def feature(corpus, name="prosody"):
    return FeatureCache.open(corpus / "cache", name)


def damage(corpus, byte=0):
    (file,) = (corpus / "cache").glob("prosody/*/data.zarr/*/frames/c/0/0")
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)


def test_info_shows_what_is_cached_and_what_is_missing(corpus):
    before = ser("cache", "info", cwd=corpus)
    assert before.returncode == 0
    assert "prosody" in before.stdout
    assert f" {COUNT} " in before.stdout
    assert " none " in before.stdout
    assert f"prosody {feature(corpus).fingerprint}: kind prosody, version 1\n" in before.stdout
    shutil.rmtree(corpus / "cache")
    frames = sum(-(-(4800 + 160 * i) // 160) for i in range(COUNT))
    size = f"{frames * 16 * 2 / 1e3:.1f} kB"
    after = ser("cache", "info", cwd=corpus)
    assert "not extracted yet" in after.stdout
    assert f"{COUNT}, about {size}" in after.stdout


def test_info_of_a_cache_needs_no_pipeline(corpus, tmp_path):
    done = ser("cache", "info", "--cache", corpus / "cache", cwd=tmp_path)
    assert done.returncode == 0
    assert "prosody" in done.stdout
    empty = ser("cache", "info", "--cache", tmp_path / "empty", cwd=tmp_path)
    assert empty.stdout == f"{tmp_path / 'empty'}: nothing is cached\n"


def test_verify_names_what_is_damaged_and_extract_redoes_only_that(corpus):
    whole = ser("cache", "verify", cwd=corpus)
    assert (whole.returncode, whole.stdout) == (
        0,
        f"prosody {feature(corpus).fingerprint}: {COUNT} utterances, checksums OK\n",
    )
    first = feature(corpus).index().sort("row")["utterance"][0]
    damage(corpus)
    output = ser("cache", "verify", "prosody", cwd=corpus)
    assert output.returncode == 1
    assert output.stdout.endswith(f"the frames of 1 utterance are damaged\n  {first}\n")
    mended = ser("cache", "verify", "--repair", cwd=corpus)
    assert mended.returncode == 0
    assert mended.stdout.endswith(
        "prosody: 1 utterance dropped, the others kept; `ser extract prosody` extracts them again\n"
    )
    again = ser("extract", "prosody", cwd=corpus)
    assert f"1 extracted, {COUNT - 1} already cached" in again.stdout
    assert ser("cache", "verify", cwd=corpus).returncode == 0


def test_verify_of_an_unknown_feature_lists_the_existing_ones(corpus):
    done = ser("cache", "verify", "prosodi", cwd=corpus)
    assert (done.returncode, done.stderr) == (
        2,
        f"ser: {corpus / 'cache'}: feature 'prosodi' is not in the cache, which holds prosody.\n",
    )


def test_prune_asks_for_confirmation_and_deletes_what_no_pipeline_uses(corpus):
    nothing = ser("cache", "prune", cwd=corpus)
    assert nothing.stdout == f"{corpus / 'cache'}: every feature is named by a pipeline\n"
    with_int8 = "features.prosody.precision=int8"
    assert ser("extract", "prosody", "--set", with_int8, cwd=corpus).returncode == 0
    other = (corpus / "pipeline.yaml").read_text()
    (corpus / "other.yaml").write_text(
        other.replace("{kind: prosody}", "{kind: prosody, precision: int8}")
    )
    kept = ser("cache", "prune", "--also", "other.yaml", cwd=corpus)
    assert "every feature is named" in kept.stdout
    output = ser("cache", "prune", cwd=corpus)  # standard input is empty
    assert output.returncode == 2
    assert "Delete 1 feature (" in output.stdout
    assert output.stderr == (
        "ser: standard input has no answer, so nothing was deleted; give --yes to delete without "
        "being asked.\n"
    )
    assert len(list((corpus / "cache" / "prosody").iterdir())) == 2
    done = ser("cache", "prune", "--yes", cwd=corpus)
    assert done.returncode == 0
    assert "kind prosody, precision int8, version 1" in done.stdout
    assert "1 feature deleted (" in done.stdout
    assert "precision" not in feature(corpus).metadata["spec"]


def test_ctrl_c_at_the_question_of_prune_deletes_nothing(monkeypatch):
    def interrupt(question):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise typer.Abort from None  # as Typer does

    monkeypatch.setattr(typer, "confirm", interrupt)
    with pytest.raises(typer.Abort, match=r"^nothing was deleted$"):
        cache._is_confirmed("Delete 1 feature (3.1 MB)?")


def test_merge_copies_once(corpus, tmp_path):
    name = f"prosody/{feature(corpus).fingerprint}"
    first = ser("cache", "merge", tmp_path / "all", corpus / "cache", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, f"{name}: 1 shard copied\n")
    second = ser("cache", "merge", tmp_path / "all", corpus / "cache", cwd=tmp_path)
    assert second.stdout == f"{name}: 0 shards copied\n"
    done = ser("cache", "verify", "--cache", tmp_path / "all", cwd=tmp_path)
    assert f"{COUNT} utterances, checksums OK" in done.stdout


@pytest.mark.parametrize("options", [(), ("--view",), ("--format", "zarr")])
def test_export_and_import_give_the_same_cache(corpus, tmp_path, options):
    cache = feature(corpus)
    place = tmp_path / "exported"
    out = ser("cache", "export", "prosody", place, *options, cwd=corpus)
    assert (out.returncode, out.stdout) == (0, f"{place}: {COUNT} utterances\n")
    if "zarr" in options:
        store = zarr.open_group(place, mode="r")
        assert store["offsets"].shape == (COUNT + 1,)
    else:
        with h5py.File(place) as file:
            np.testing.assert_array_equal(file["u3"][()], cache.frames("u3"))
    into = tmp_path / "other"
    words = ("cache", "import", "prosody", place, "--cache", into)
    done = ser(*words, cwd=tmp_path)
    place = f"{into}/prosody/{cache.fingerprint}"
    assert (done.returncode, done.stdout) == (0, f"{place}: {COUNT} imported, 0 already cached\n")
    again = ser(*words, cwd=tmp_path)
    assert again.stdout == f"{place}: 0 imported, {COUNT} already cached\n"
    columns = ["utterance", "crc32c", "stat", "source"]
    imported = FeatureCache.open(into, "prosody").index().select(columns).sort("utterance")
    assert imported.equals(cache.index().select(columns).sort("utterance"))


def test_zarr_options_where_they_do_not_belong_are_reported_in_one_sentence(corpus, tmp_path):
    view = ser("cache", "export", "prosody", "x", "--view", "--format", "zarr", cwd=corpus)
    assert view.returncode == 2
    assert "--view" in view.stderr
    (tmp_path / "mine").mkdir()
    named = ("cache", "import", "mine", tmp_path / "mine", "--frame-rate", "50", "--ids", "who")
    done = ser(*named, cwd=corpus)
    assert done.returncode == 2
    assert f"{tmp_path / 'mine'}: " in done.stderr
    assert "Zarr store" in done.stderr


def test_a_zarr_store_is_imported_by_the_names_of_its_arrays(corpus, tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    group.create_array("hidden", data=np.arange(10.0).reshape(5, 2) + 1)
    group.create_array("files", data=np.array(["u0", "u1"], "S2"))
    group.create_array("n", data=np.array([2, 3]))
    names = ("--frames", "hidden", "--ids", "files", "--lengths", "n", "--frame-rate", "50")
    done = ser("cache", "import", "mine", tmp_path / "x.zarr", *names, cwd=corpus)
    assert (done.returncode, done.stdout.split(": ")[1]) == (0, "2 imported, 0 already cached\n")
    cache = FeatureCache.open(corpus / "cache", "mine")
    np.testing.assert_array_equal(cache.frames("u1"), [[5, 6], [7, 8], [9, 10]])


def test_imported_features_train_heads_and_what_is_absent_is_listed(corpus):
    (corpus / "mine").mkdir()
    rng = np.random.default_rng(0)
    for i in range(COUNT - 1):
        np.save(corpus / "mine" / f"u{i}.npy", rng.standard_normal((9, 5), np.float32))
    pipeline = (corpus / "pipeline.yaml").read_text()
    pipeline = pipeline.replace("{kind: prosody}", "{kind: prosody}\n  mine: {kind: imported}")
    (corpus / "pipeline.yaml").write_text(pipeline.replace("[prosody]", "[prosody, mine]"))
    early = ser("extract", "mine", cwd=corpus)
    assert (early.returncode, early.stderr) == (
        2,
        "ser: features.mine: nothing was imported; run `ser cache import mine SOURCE`.\n",
    )
    done = ser("cache", "import", "mine", "mine", "--frame-rate", "50", cwd=corpus)
    assert done.returncode == 0, done.stderr
    listed = ser("extract", "mine", cwd=corpus)
    assert listed.returncode == 1
    assert f"0 extracted, {COUNT - 1} already cached, 1 failed" in listed.stdout
    assert "(first: u14: it was not imported)" in listed.stdout
    assert ser("heads", "train", "two", "--in-memory", cwd=corpus).returncode == 0


def test_import_lists_what_it_cannot_use(corpus):
    (corpus / "mine").mkdir()
    np.save(corpus / "mine" / "a.npy", np.ones((2, 3), np.float32))
    np.save(corpus / "mine" / "b.npy", np.ones((2, 4), np.float32))
    done = ser("cache", "import", "mine", "mine", "--frame-rate", "50", cwd=corpus)
    assert done.returncode == 1
    assert "1 imported, 0 already cached\n" in done.stdout
    assert done.stdout.endswith("b.npy: the features are of shape (2, 4), not (n, 3)\n")


def test_prune_keeps_text_whose_transcripts_are_unknown(corpus):
    pipeline = (corpus / "pipeline.yaml").read_text()
    words = "  words: {kind: asr, model: whisper-tiny.en}\n  tokens: {model: minilm, of: words}\n"
    (corpus / "pipeline.yaml").write_text(pipeline.replace("heads:", f"{words}heads:", 1))
    place = corpus / "cache" / "tokens"
    FeatureCache.create(corpus / "cache", "tokens", {"kind": "text"}, {"item_shape": [2]})
    done = ser("cache", "prune", "--yes", cwd=corpus)
    assert (done.returncode, len(list(place.iterdir()))) == (0, 1)
    assert "every feature is named by a pipeline" in done.stdout
