"""What a preset needs, in numbers and words."""

import pytest

from corpus.errors import UserError
from presets import names
from ser.presets import catalogue
from ser.presets.catalogue import load, needs, table


def test_needs_of_unicamp():
    of = needs(load("unicamp"))
    frames = 50 * (1280 + 1280 + 1024) + 80 * 512 + 4 * (1024 + 1536)
    assert of.gigabytes == pytest.approx(100 * 3600 * frames * 2 / 1e9)
    assert of.licences == ("wavlm-large: disputed: MIT or CC BY-SA 3.0",)
    assert (of.not_legal, of.unknown) == ((), ())


def test_a_fine_tuned_copy_is_as_wide_as_its_model_and_no_model_of_its_own():
    of = needs(load("sail-categorical"))
    assert of.gigabytes == pytest.approx(100 * 3600 * (50 * 1280 + 4 * 1024) * 2 / 1e9)
    assert of.unknown == ()


def test_all_layers_are_a_size_unknown_and_models_without_a_card_are_named():
    of = needs(load("emodb-tiny"))
    assert of.gigabytes is None
    assert of.unknown == ("WHISPER_TINY_EN", "WHISPER_BASE")
    assert of.licences == ("openSMILE: audEERING, research",)


def test_the_table_has_a_row_of_each():
    rows = {row["preset"]: row for row in table().iter_rows(named=True)}
    assert list(rows) == names()
    assert rows["unicamp"] == {
        "preset": "unicamp",
        "result": "task 1: 5th, macro-F1 0.4094",
        "features": "whisper hubert wavlm roberta deberta prosody",
        "heads": "12 cross_modal_gru + random_forest",
        "needs": "165.9 GB/100 h; wavlm-large: disputed: MIT or CC BY-SA 3.0; challenge-legal",
    }
    assert rows["sail-attributes"]["heads"] == "1 mean_mlp, 1 mean_mlp*"
    assert rows["sail-attributes"]["features"] == "whisper roberta wavlm*"
    assert rows["demo"]["result"] == "small"


def test_a_model_trained_for_emotion_is_not_for_the_challenge(monkeypatch):
    text = catalogue.preset("nu").replace(
        "facebook/hubert-large-ls960-ft", "hubert-large-superb-er"
    )
    monkeypatch.setattr(catalogue, "preset", lambda name: text)
    pipeline = load("nu")
    assert needs(pipeline).not_legal == ("hubert-large-superb-er",)
    assert catalogue._in_words(needs(pipeline)) == (
        "85.9 GB/100 h; gpt-4o-2024-08-06: as its server says; not for the challenge: "
        "hubert-large-superb-er"
    )


def test_a_mistake_names_the_preset_and_its_line(monkeypatch):
    text = catalogue.preset("nu").replace("loss: [wce]", "loss: [wec]")
    monkeypatch.setattr(catalogue, "preset", lambda name: text)
    with pytest.raises(UserError, match=r"^presets/nu.yaml:\d+: heads.*did you mean 'wce'"):
        load("nu")
