from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ser.corpus.errors import UserError
from ser.extract.extractor import EXTRACTORS, parse_options
from ser.extract.kinds.audio_llm import PROMPT
from ser.extract.kinds.prosody import Prosody
from ser.extract.kinds.speech import SpeechOptions
from ser.extract.kinds.whisper import Asr, AsrOptions, WhisperFeatures
from tests.extract.factories import made


def test_built_in_kinds_are_imported_on_demand() -> None:
    kinds = [EXTRACTORS.get(kind) for kind in ("whisper", "asr", "prosody")]
    assert kinds == [WhisperFeatures, Asr, Prosody]


def test_the_error_for_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UserError) as raised:
        EXTRACTORS.get("wisper")
    assert str(raised.value) == ("features: the kind 'wisper' is unknown; did you mean 'whisper'?")


def test_known_model_brings_its_kind() -> None:
    options = parse_options({"model": "wavlm-large", "layer": "12"})
    assert options == SpeechOptions(kind="speech", model="wavlm-large", layer=12)


def test_kind_can_be_another_than_the_models_first() -> None:
    options = parse_options({"model": "whisper-tiny.en", "kind": "asr"})
    assert options == AsrOptions(kind="asr", model="whisper-tiny.en")


def test_entry_with_neither_kind_nor_model() -> None:
    with pytest.raises(UserError) as raised:
        parse_options({"layer": 3})
    assert str(raised.value) == (
        "features: an entry has neither `kind` nor `model`; give one of them."
    )


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"kind": "whisper", "model": "x", "windw": "trim"}, "windw"),
        ({"kind": "whisper", "model": "x", "window": "short"}, "window"),
        ({"kind": "speech", "model": "x", "layer": "last"}, "layer"),
        ({"kind": "prosody", "precision": "float8"}, "precision"),
        ({"kind": "speech"}, "model"),
        ({"kind": "text", "model": "x"}, "of"),
    ],
)
def test_bad_options_name_their_field(entry: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as raised:
        parse_options(entry)
    assert [error["loc"] for error in raised.value.errors()] == [(field,)]


def test_extractors_of_one_kind_share_nothing() -> None:
    first, second = made("prosody"), made("prosody", precision="float32")
    assert first.options.precision != second.options.precision
    wave = np.sin(np.arange(16_000, dtype=np.float32))
    np.testing.assert_array_equal(first.extract([wave])[0], second.extract([wave])[0])


DEFAULTS = {  # part of the cache's format: whoever changes one raises that extractor's version
    ("whisper", 1): {
        "precision": "float16",
        "layer": -1,
        "compile": False,
        "window": "full",
        "silence": 1.0,
    },
    ("asr", 3): {
        "precision": "float16",
        "window": "full",
        "silence": 8.0,
        "language": "en",
        "normalise": "none",
        "word_times": False,
    },
    ("speech", 1): {
        "precision": "float16",
        "layer": -1,
        "compile": False,
        "chunk": 30.0,
        "overlap": 2.6,
        "posteriors": False,
    },
    ("text", 1): {
        "precision": "float16",
        "layer": -1,
        "compile": False,
        "special_tokens": True,
        "quantize": "none",
        "pad_to": None,
    },
    ("prosody", 1): {"precision": "float16", "values": "all"},
    ("opensmile", 2): {"precision": "float16"},
    ("pitch", 1): {"precision": "float16"},
    ("local_audio_llm", 1): {
        "precision": "float16",
        "prompt": PROMPT,
        "answer": "letter",
        "reasoning": 0,
        "longest": 30.0,
    },
    ("recognizer", 1): {"precision": "float16", "language": "en", "chunk": 30.0},
    ("speaker", 1): {"precision": "float16"},
    ("facodec", 1): {"precision": "float16", "parts": "prosody+speaker"},
}


@pytest.mark.parametrize("kind", [kind for kind, _ in DEFAULTS])
def test_a_changed_default_raises_the_version(kind: str) -> None:
    cls = EXTRACTORS.get(kind)
    fields = cls.Options.model_fields
    own = {k: f for k, f in fields.items() if not f.is_required() and k not in {"model", "augment"}}
    given = {k: f.default for k, f in own.items()}
    assert DEFAULTS[kind, cls.version] == given
