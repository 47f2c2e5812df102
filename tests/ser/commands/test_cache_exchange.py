"""`ser cache push` and `pull`: from one cache to another by the hub, where the licence lets it."""

import shutil

import numpy as np
import pytest
import yaml

from ser.cache.features import FeatureCache
from tests.ser.factories import make_corpus, ser

PLACE = "hf:anna/prosody"


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("push") / "corpus"
    make_corpus(folder, 6)
    assert ser("extract", "--all", cwd=folder).returncode == 0
    return folder


def test_a_feature_goes_from_cache_to_cache(hub, extracted, tmp_path):
    push = ("cache", "push", "prosody", PLACE)
    refused = ser(*push, cwd=extracted)
    assert refused.returncode == 2
    assert "whether features of its corpus may be shared is not known; if its" in refused.stderr
    for name in ("", "CC\nBY", "x" * 301):
        refused = ser(*push, "--licence", name, cwd=extracted)
        sentence = "ser: --licence: give its name in one line of up to 300 letters.\n"
        assert (refused.returncode, refused.stderr) == (2, sentence)
    pushed = ser(*push, "--licence", "CC BY 4.0", "--private", cwd=extracted)
    assert pushed.returncode == 0, pushed.stderr
    assert hub.repos["datasets", "anna/prosody"].private
    card = hub.files("datasets", "anna/prosody")["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-4.0"
    assert f"ser cache pull {PLACE}" in card
    for _ in range(2):
        pulled = ser("cache", "pull", PLACE, "--cache", tmp_path / "clean", cwd=tmp_path)
        assert pulled.returncode == 0, pulled.stderr
    assert "6 utterances, checksums OK, 0 new shards" in pulled.stdout + pulled.stderr
    ours = FeatureCache.open(extracted / "cache", "prosody")
    theirs = FeatureCache.open(tmp_path / "clean", "prosody")
    assert theirs.fingerprint == ours.fingerprint
    for utterance in ours.index()["utterance"]:
        np.testing.assert_array_equal(theirs.frames(utterance), ours.frames(utterance))
    assert ser("cache", "verify", "--cache", tmp_path / "clean", cwd=tmp_path).returncode == 0


def test_what_may_not_be_shared_stays_here(hub, extracted, tmp_path):
    shutil.copytree(extracted, tmp_path / "x")
    manifest = tmp_path / "x" / "m.csv"
    text = manifest.read_text()
    (tmp_path / "x" / "msp-podcast.csv").write_text(text)
    push = ("cache", "push", "prosody", PLACE, "--licence", "CC BY 4.0")
    refused = ser(*push, "--set", "corpus.manifest=msp-podcast.csv", cwd=tmp_path / "x")
    assert refused.returncode == 2
    assert "the licence of msp-podcast (academic, signed by an institution" in refused.stderr
    manifest.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    refused = ser(*push, cwd=tmp_path / "x")
    assert refused.returncode == 2
    assert "1 utterance in it, as '" in refused.stderr
    assert not hub.repos
