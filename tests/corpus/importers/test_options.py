from collections.abc import Mapping
from pathlib import Path

import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.options import typed_options


class Own: ...


def options(
    folder: Path,
    *,
    text: str | None = None,
    path: str | Path = "",
    emotions: Mapping[str, str] | None = None,
    names: list[str] | None = None,
    either: str | list[str] = "",
    count: int = 1,
    flag: bool = False,
    ratio: float | None = None,
    plain=None,
    guessed=3,
    own: "Own | None" = None,
) -> None: ...


def typed(**given: str) -> dict[str, object]:
    return typed_options(options, given)


def refusal(**given: str) -> str:
    with pytest.raises(UserError) as caught:
        typed(**given)
    return str(caught.value)


@pytest.mark.parametrize("name", ["text", "path", "either", "plain"])
@pytest.mark.parametrize(
    "value",
    ["@file", "no", "Label: final", "labels #2.csv", "1e3", "~", "*x", "", " a", "%", "a: ["],
)
def test_text_is_text(name: str, value: str) -> None:
    assert typed(**{name: value}) == {name: value}


def test_an_option_of_text_alone_keeps_brackets() -> None:
    assert typed(text="{a: b}", plain="[x]") == {"text": "{a: b}", "plain": "[x]"}


def test_mappings_and_lists_hold_text() -> None:
    assert typed(emotions="{04: sad, no: yes, 1e3: '2'}") == {
        "emotions": {"04": "sad", "no": "yes", "1e3": "2"}
    }
    assert typed(names="[04, null]", either="[a]") == {"names": ["04", "null"], "either": ["a"]}


def test_other_types_are_converted() -> None:
    given = {"count": "5", "flag": "true", "ratio": "0.5", "guessed": "7"}
    assert typed(**given) == {"count": 5, "flag": True, "ratio": 0.5, "guessed": 7}
    assert typed(unknown="x", own="y") == {"unknown": "x", "own": "y"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "angry",
            "option emotions is 'angry': it must be a mapping; write it as {A: angry, S: sad}.",
        ),
        ("", "option emotions is empty; write it as {A: angry, S: sad}."),
        (
            "{angry: [a]}",
            "option emotions is '{angry: [a]}' at angry: it must be text; "
            "write it as {A: angry, S: sad}.",
        ),
        ("{a: b, a: c}", "option emotions: 'a' appears twice; keep one of them."),
        ("[" * 500, "option emotions: it is nested deeper than 30 levels; flatten it."),
        (
            "{a: " + "b" * 300_000 + "}",
            "option emotions: it is larger than 256 KiB; shorten it.",
        ),
    ],
)
def test_what_is_no_mapping_is_reported_in_one_sentence(value: str, message: str) -> None:
    assert refusal(emotions=value) == message


@pytest.mark.parametrize("value", ["{a: [", "{a: b", "{[a]: b}", "a: b: c", "!!x {", "{a: b} c"])
def test_broken_yaml_is_reported_in_one_sentence(value: str) -> None:
    assert refusal(emotions=value).startswith("option emotions: ")


def test_other_types_that_do_not_fit_are_reported_in_one_sentence() -> None:
    assert refusal(count="many").startswith("option count is 'many': it must be a valid int")
