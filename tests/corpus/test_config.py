import pytest
from pydantic import ValidationError

from ser.corpus.config import MSP_CLASSES, CorpusConfig


def test_classes_default_to_the_published_order() -> None:
    config = CorpusConfig(manifest="m.parquet", audio="Audios")  # type: ignore[arg-type]
    assert config.classes == MSP_CLASSES
    assert MSP_CLASSES[-1] == "neutral"


def test_a_class_named_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="a class is named twice; name each once"):
        CorpusConfig(manifest="m", audio="a", classes=("sad", "sad"))  # type: ignore[arg-type]


def test_a_class_on_two_lines_is_refused() -> None:
    message = r"'joy\\n2' has a line break or a control character; remove it"
    with pytest.raises(ValidationError, match=message):
        CorpusConfig(manifest="m", audio="a", classes=("joy\n2", "sad"))  # type: ignore[arg-type]


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        CorpusConfig(manifest="m", audio="a", clases=("a", "b"))  # type: ignore[arg-type,call-arg]
