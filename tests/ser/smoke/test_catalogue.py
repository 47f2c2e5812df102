"""The requirements of presets, in numbers and words."""

import pytest

from ser.corpus.errors import UserError
from ser.presets import names
from ser.smoke import catalogue
from ser.smoke.catalogue import load, requirements, table


def test_needs_of_unicamp():
    needs = requirements(load("unicamp"))
    frames = 50 * (1280 + 1280 + 1024) + 80 * 512 + 4 * (1024 + 1536)
    assert needs.gigabytes == pytest.approx(100 * 3600 * frames * 2 / 1e9)
    assert needs.licences == ("wavlm-large: disputed: MIT or CC BY-SA 3.0",)
    assert (needs.not_legal, needs.unknown) == ((), ())


def test_a_fine_tuned_model_has_the_width_of_its_base_and_needs_no_card():
    needs = requirements(load("sail-categorical"))
    assert needs.gigabytes == pytest.approx(100 * 3600 * (50 * 1280 + 4 * 1024) * 2 / 1e9)
    assert needs.unknown == ()


def test_the_size_of_all_layers_is_unknown_and_models_without_a_card_are_listed():
    needs = requirements(load("emodb-tiny"))
    assert needs.gigabytes is None
    assert needs.unknown == ("WHISPER_TINY_EN", "WHISPER_BASE")
    assert needs.licences == ("openSMILE: audEERING, research",)
    assert catalogue._in_words(needs) == (
        "size of the cache unknown; openSMILE: audEERING, research; weights from $WHISPER_TINY_EN, "
        "$WHISPER_BASE"
    )


def test_a_preset_without_frozen_features_needs_no_cache():
    rows = {row["preset"]: row["needs"] for row in table().iter_rows(named=True)}
    assert [name for name, needs in rows.items() if needs.startswith("no cache; ")] == [
        *("baseline-categorical", "baseline-attributes", "msp-podcast-soft"),
    ]


def test_the_table_has_a_row_of_each():
    rows = {row["preset"]: row for row in table().iter_rows(named=True)}
    assert list(rows) == names()
    assert rows["unicamp"] == {
        "preset": "unicamp",
        "description": "Interspeech 2025 challenge on MSP-Podcast, eight emotions: 5th, macro-F1 "
        "0.4094",
        "features": "whisper hubert wavlm roberta deberta prosody",
        "heads": "12 cross_modal_gru + random_forest",
        "needs": "165.9 GB of cache for 100 h of audio; wavlm-large: disputed: MIT or CC BY-SA "
        "3.0; all models allowed in the challenge",
    }
    assert rows["sail-attributes"]["heads"] == "1 mean_mlp, 1 mean_mlp*"
    assert rows["sail-attributes"]["features"] == "whisper roberta wavlm*"
    assert rows["demo"]["description"].startswith("synthetic speech: ")


def test_a_model_trained_for_emotion_is_not_for_the_challenge(monkeypatch):
    text = catalogue.preset("nu").replace(
        "facebook/hubert-large-ls960-ft", "hubert-large-superb-er"
    )
    monkeypatch.setattr(catalogue, "preset", lambda name: text)
    pipeline = load("nu")
    assert requirements(pipeline).not_legal == ("hubert-large-superb-er",)
    assert catalogue._in_words(requirements(pipeline)) == (
        "85.9 GB of cache for 100 h of audio; gpt-4o-2024-08-06: terms of its server; not allowed "
        "in the challenge: "
        "hubert-large-superb-er"
    )


def test_a_mistake_names_the_preset_and_its_line(monkeypatch):
    text = catalogue.preset("nu").replace("loss: [wce]", "loss: [wec]")
    monkeypatch.setattr(catalogue, "preset", lambda name: text)
    with pytest.raises(UserError, match=r"^presets/nu.yaml:\d+: heads.*did you mean 'wce'"):
        load("nu")


def test_the_baseline_is_no_part_of_a_published_system(monkeypatch):
    monkeypatch.setattr("ser.pipeline.baseline.DEFAULT", True)
    rows = {row["preset"]: row for row in table().iter_rows(named=True)}
    assert "linear_probe" not in rows["unicamp"]["heads"]
