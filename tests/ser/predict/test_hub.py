"""A bundle on the hub predicts what its run predicted, after the run is gone."""

import re
import shutil
import zipfile
from types import SimpleNamespace

import pytest
import yaml

import ser
from ser.corpus.errors import UserError
from ser.packing.hub_card import _scores, hub_licence
from ser.score.scores import read_metrics
from tests.ser.factories import ser as command

PLACE = "hf:anna/calls"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def pushed(hub, light, small, tmp_path):
    """Return the commit of the run of one head, with the report of the whole run."""
    run = tmp_path / "run"
    shutil.copytree(light.parent / "run", run, symlinks=True)
    (run / "report").symlink_to(small.run / "report")
    done = command("pack", run, "--push", PLACE, "--licence", "CC BY-NC-SA 4.0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(run)
    (commit,) = re.findall(rf"{PLACE}@([0-9a-f]{{40}}): pushed", done.stdout + done.stderr)
    return commit


def test_pack_push_and_pull_predicts_the_same(pushed, light, clips, tmp_path, monkeypatch):
    expected = ser.load(light, "cpu")(clips[:2])
    assert [r.probabilities for r in ser.load(PLACE, "cpu")(clips[:2])] == [
        r.probabilities for r in expected
    ]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = tmp_path / "x.csv"
    place = f"{PLACE}@{pushed}"
    done = command("predict", clips[0], "--run", place, "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f",{expected[0].emotion}," in out.read_text()
    shown = command("pack", "--show", PLACE, cwd=tmp_path)
    assert "checksums OK" in shown.stdout
    wrong = command("predict", clips[0], "--run", "hf:anna/none", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "hf:anna/none: it was not downloaded before, and HF_HUB_OFFLINE" in wrong.stderr


def test_the_card_has_licence_languages_models_and_scores(hub, pushed):
    text = hub.files("models", "anna/calls")["README.md"].decode()
    _, front, card = text.split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["license"] == "cc-by-nc-sa-4.0"
    assert data["pipeline_tag"] == "audio-classification"
    assert "speech-emotion-recognition" in data["tags"]
    (model,) = data["model-index"]
    assert model["name"] == "calls"
    scores = {
        (result["dataset"]["split"], metric["name"]): metric["value"]
        for result in model["results"]
        for metric in result["metrics"]
    }
    assert {name for _, name in scores} == {"macro-F1", "UAR", "accuracy"}
    assert {split for split, _ in scores} == {"dev", "test"}
    assert all(0 <= value <= 1 for value in scores.values())
    assert sorted(data["metrics"]) == ["accuracy", "f1", "recall"]
    assert f"ser predict --run {PLACE} clip.wav" in card
    assert f'ser.load("{PLACE}")' in card
    assert "pip install 'ser-pipeline[extract]'" in card
    assert "## Intended use and limits" in card


def test_the_scores_of_a_stack_and_of_attributes_are_in_the_card(small):
    record = SimpleNamespace(stack="logistic", heads=("gru", "stats", "rated"))
    scores = {(s.dataset_split, s.metric_name): s for s in _scores(small.run, record, ("emodb",))}
    system = read_metrics(small.run / "report" / "metrics.json")["test"]["stack"]
    assert scores["test", "CCC of valence"].metric_value == round(
        system.attributes["valence"].ccc, 4
    )
    assert scores["test", "UAR"].metric_value == round(system.classes.scores["uar"].value, 4)
    assert {s.dataset_name for s in scores.values()} == {"emodb"}


def test_a_bundle_that_was_changed_on_the_hub_is_as_untrusted_as_any(hub, pushed, tmp_path):
    data = bytearray(hub.files("models", "anna/calls")["calls.ser"])
    data[data.index(b"PK\x01\x02")] ^= 1
    repo = ser.cache.hub.HubRepo.parse(PLACE, "bundle")
    (tmp_path / "x.ser").write_bytes(data)
    repo.push("calls", "", {"calls.ser": tmp_path / "x.ser"})  # its sha256 fits
    with pytest.raises(UserError, match="it is not a bundle, or is damaged"):
        ser.load(PLACE, "cpu")
    with zipfile.ZipFile(tmp_path / "x.ser", "w") as archive:
        archive.writestr("../x", b"")
    repo.push("calls", "", {"calls.ser": tmp_path / "x.ser"})
    with pytest.raises(UserError, match="does not belong in a bundle"):
        ser.load(PLACE, "cpu")
    repo.push("calls", "", {"other.ser": tmp_path / "x.ser"})
    with pytest.raises(UserError, match=r"ser\.json does not list one bundle; ask its owner"):
        ser.load(PLACE, "cpu")


def test_a_push_that_cannot_work_packs_nothing(hub, light, tmp_path, monkeypatch):
    run = light.parent / "run"
    monkeypatch.delenv("HF_TOKEN")
    for words, text in (
        ((run, "--push", PLACE), "the hub takes files with a token only; log in with"),
        (
            (run, "--push", "anna/calls"),
            "anna/calls: it is not a repository of the hub; give hf:own",
        ),
        ((run,), "give RUN and -o bundle.ser, --push hf:owner/name or --onnx DIR; or --show"),
    ):
        done = command("pack", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert text in done.stderr
    assert not hub.repos


def test_licences_by_the_names_of_the_hub():
    assert hub_licence("CC BY 4.0") == {"license": "cc-by-4.0"}
    assert hub_licence("Open Database License") == {"license": "odbl"}
    assert hub_licence("Our own, v2: ask") == {
        "license": "other",
        "license_name": "our-own-v2-ask",
    }
    assert hub_licence(None) == {"license": "unknown"}
