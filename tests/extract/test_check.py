import json
import sys
import warnings

import polars as pl
import pytest

from ser.corpus.errors import Note, UserError
from ser.extract.check import check_features, warn_of_languages
from ser.extract.extractor import parse_options
from tests.extract.factories import ctranslate2_whisper


def model(folder, **config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_every_wrong_feature_is_listed_at_once(tmp_path):
    text = model(tmp_path / "text", num_hidden_layers=4)
    t5 = model(tmp_path / "t5", num_layers=2)
    fast = str(ctranslate2_whisper(None))
    model(tmp_path / "cut")
    (tmp_path / "cut" / "model.bin").touch()
    (tmp_path / "empty").mkdir()
    entries = {
        "right": {"kind": "text", "of": "transcript", "model": text, "layer": 4},
        "whole": {"kind": "text", "of": "transcript", "model": text, "layer": "all"},
        "deep": {"kind": "text", "of": "transcript", "model": text, "layer": 5},
        "slice": {"kind": "text", "of": "transcript", "model": t5, "layer": "mean:3:"},
        "fast": {"kind": "whisper", "model": fast, "layer": 3},
        "last": {"kind": "whisper", "model": fast, "layer": 2},
        "cut": {"kind": "whisper", "model": str(tmp_path / "cut"), "layer": 2},
        "none": {"kind": "speech", "model": str(tmp_path / "empty")},
        "prosody": {"kind": "prosody"},
    }
    features = {name: parse_options(entry) for name, entry in entries.items()}
    with pytest.raises(UserError) as error:
        check_features(features)
    assert str(error.value).splitlines() == [
        "5 features cannot be extracted, so none was:",
        "  features.deep: layer 5: the model has states 0 to 4.",
        "  features.slice: layer mean:3:: the slice is empty, the model has 3 states.",
        "  features.fast: layer 3: the model has states 0 to 2.",
        "  features.cut: model.bin is truncated.",
        f"  features.none: {tmp_path}/empty: it has no config.json; give the folder that the "
        "model was saved to.",
    ]
    check_features(features, weights=False)
    with pytest.raises(
        UserError, match=r"^features\.deep: layer 5: the model has states 0 to 4\.$"
    ):
        check_features({"deep": features["deep"]})


def test_a_package_that_only_the_last_feature_needs_is_missed_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    features = {name: parse_options({"kind": name}) for name in ("prosody", "opensmile")}
    with pytest.raises(ModuleNotFoundError) as error:
        check_features(features)
    assert error.value.name == "opensmile"


def language_notes(languages, **entry):
    features = {
        "words": parse_options({"kind": "asr", **entry}),
        "prosody": parse_options({"kind": "prosody"}),
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # of what an earlier test left
        warn_of_languages(features, pl.Series("language", languages, dtype=pl.String))
    assert all(note.category is Note for note in caught)
    return [str(note.message) for note in caught]


def test_a_transcript_in_another_language_is_a_note():
    german = ["de", "de-AT", None, "en"]
    assert language_notes(german, model="whisper-tiny.en") == [
        "features.words: whisper-tiny.en transcribes as en, but the corpus is in de (2 of 4 "
        "utterances); use a multilingual model, as whisper-base, and `language: de`, or no "
        "transcripts."
    ]
    assert language_notes(["it", "de", "it"], model="whisper-base") == [
        "features.words: whisper-base transcribes as en, but the corpus is in de, it (3 of 3 "
        "utterances); use `language: it`, or no transcripts."
    ]
    assert len(language_notes(["de"], model="distil-whisper-large-v3", language="de")) == 1
    assert language_notes(["de", None], model="whisper-base", language="de") == []
    assert language_notes([None, None], model="whisper-tiny.en") == []
    assert language_notes(["en", "en-GB"], model="/models/whisper.en") == []
