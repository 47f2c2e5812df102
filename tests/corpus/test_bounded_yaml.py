"""YAML of strangers: plain data of bounded size, or one sentence with its line, at once."""

import math
import re
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus import bounded_yaml
from ser.corpus.bounded_yaml import LARGEST, parse_yaml, read_yaml
from ser.corpus.errors import UserError
from ser.pipeline.document import Document

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


MERGES = "a: &a {x: 1, y: 2, z: 3}\n" + "".join(
    f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 9)}]}}\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def refusal(text):
    started = time.thread_time()
    with pytest.raises(UserError) as error:
        parse_yaml("f.yaml", text)
    assert time.thread_time() - started < 5  # also if all garbage is collected meanwhile
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 400
    return message.removeprefix("f.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("? [a, b]\n: 1\n", ":1: a key is a list or a mapping; write it as one word."),
        ("a: 1\n? {b: c}\n: 1\n", ":2: a key is a list or a mapping; write it as one word."),
        ("a: &a [*a]\n", ":1: the alias *a contains itself; correct it."),
        ("a:\n  b: &a {c: [*a]}\n", ":2: the alias *a contains itself; correct it."),
        ("a: *b\n", ":1: the alias *b has no anchor before it; correct it."),
        ("a: &x 1\nb: &x 2\n", ":2: the anchor &x is given twice; correct it."),
        (BOMB, ":5: it has more than 20,000 values, aliases expanded; shorten it."),
        (MERGES, ":5: it has more than 20,000 values, aliases expanded; shorten it."),
        ("- a\n" * 20_000, ":20000: it has more than 20,000 values, aliases expanded; shorten it."),
        ("a:\n" + "".join(" " * n + "- \n" for n in range(1, 99)), ":32: it is nested deeper than"),
        ("x: 1\n" * 2, ":2: 'x' appears twice; keep one of them."),
        ("a: 1\n---\nb: 1\n", ":2: a second document begins (`---`); keep one."),
        ("a: 1\nb: " + "1" * 6000, ":2: a number has 6,000 characters; shorten it."),
        ("a: -" + "1_0" * 50, ":1: a number has 151 characters; shorten it."),
        ("a: " + ":".join(["59"] * 5000), ":1: a number has 14,999 characters; shorten it."),
        ("a: !!int " + "x" * 6000, ":1: a number has 6,000 characters; shorten it."),
        ("a: 0x" + "f" * 6000, ":1: a number has 6,002 characters; shorten it."),
        ("a: 0b_\n", ":1: '0b_' is not of the type int; quote it."),
        ("a: !!int x\n", ":1: 'x' is not of the type int; quote it."),
        ("a: !!int ''\n", ":1: '' is not of the type int; quote it."),
        ("a: !!bool x\n", ":1: 'x' is not of the type bool; quote it."),
        (
            "a:\n  b: !!python/object/apply:os.system [ls]\n",
            ":2: the tag !!python/object/apply:os.system is not allowed here; remove it.",
        ),
        ("a: !!binary aGk=\n", ":1: the tag !!binary is not allowed here; remove it."),
        ("a: !!timestamp 2001-01-01", ":1: the tag !!timestamp is not allowed here; remove it."),
        ("a: !!set {x}\n", ":1: the tag !!set is not allowed here; remove it."),
        ("a: !!omap [x: 1]\n", ":1: the tag !!omap is not allowed here; remove it."),
        ("a: !mine x\n", ":1: the tag !mine is not allowed here; remove it."),
        ("!!seq x: 1\n", ":1: the tag !!seq is not allowed here; remove it."),
        ("a: 1\n<<: 5\n", ":2: `<<` takes a mapping, or a list of them; correct it."),
        ("k" * 201 + ": 1\n", ":1: a key has 201 characters; shorten it."),
        (b"a: 1\nb: \xe9\n", ":2: it is not UTF-8 text; save it as UTF-8."),
        ("a: é".encode("utf-16"), ": it is UTF-16 text; save it as UTF-8."),
        ("a: é".encode("utf-32"), ": it is UTF-32 text; save it as UTF-8."),
        ("a: 1\nb: \0\n", ":2: it contains the character U+0000; remove it."),
        ("a: 1".encode("utf-16-le"), ":1: it contains the character U+0000; remove it."),
        ('a: 1\nb: "\\0"\n', ":2: a value contains the control character U+0000; correct it."),
        ('a: "\\ud800"\n', ":1: "),
        ('a: "\\U99999999"\n', ":1: not valid YAML"),
        ("a: \udcff\n", ":1: it contains the character U+DCFF; remove it."),
        ("a: [b\n", ":2: not valid YAML"),
        ("a: }\n", ":1: not valid YAML"),
        ("\ta: 1\n", ":1: not valid YAML"),
        ("%YAML 1." + "9" * 5000 + "\n---\na: 1\n", ":"),
        ("#" * (LARGEST + 1), ": it is larger than 256 KiB; shorten it."),
    ],
)
def test_what_is_not_bounded_plain_data_is_reported_in_one_sentence_with_its_line(text, message):
    assert refusal(text).startswith(message)


@pytest.mark.parametrize("levels", [3_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}"), ("[\n", "]\n")])
def test_nesting_of_any_depth_is_refused(levels, opening, closing):
    text = "corpus: " + opening * levels + closing * levels
    assert re.match(r":\d+: (it is nested deeper|not valid YAML)|: it is larger", refusal(text))


def test_plain_data_is_read_as_yaml_defines_it():
    text = """\
a: &a {x: 1, y: [1.5, -2, 1e-5, .inf, true, null, ~, "8", no]}
b: {<<: *a, y: 3}
c: {<<: [{x: 5}, *a]}
04: 2001-01-01
no: |
  two
  lines
"""
    parsed = parse_yaml("f.yaml", text)
    y = [1.5, -2, 1e-5, math.inf, True, None, None, "8", False]
    assert parsed.value == {
        "a": {"x": 1, "y": y},
        "b": {"x": 1, "y": 3},
        "c": {"x": 5, "y": y},
        "04": "2001-01-01",
        "no": "two\nlines\n",
    }
    assert parsed.value["c"]["y"] is not parsed.value["a"]["y"]
    assert (parsed.lines["b",], parsed.lines["b", "x"], parsed.lines["a", "y", 2]) == (2, 1, 1)
    assert parsed.lines["no",] == 5


def test_a_byte_order_mark_of_utf8_is_passed_over():
    assert parse_yaml("f", b"\xef\xbb\xbfa: 1").value == {"a": 1}


def test_nothing_is_null():
    assert parse_yaml("f", "# only this\n").value is None


def test_a_file_that_cannot_be_read_is_reported_in_one_sentence(tmp_path):
    for name, message in {
        "none.yaml": "there is no such file; write it, or correct the name.",
        "x" * 300: "it cannot be read (File name too long); check its name and permissions.",
        ".": "it is not a file; write it, or correct the name.",
    }.items():
        with pytest.raises(UserError, match=re.escape(message)):
            read_yaml(tmp_path / name)


PIECES = [
    *"[]{}:,-?&*!|>'\"%@`#~\n\t ",
    "<<",
    "a",
    "b: ",
    "\n  ",
    "&a",
    "*a",
    "!!int ",
    "0x",
    "1e5",
]
MORE = [
    "---",
    "\n- ",
    '"\\U',
    "\u2028",
    "\x85",
    "\ufeff",
    "é",
    "${HOME}",
    "${",
    "...",
    "?\n",
    "\r",
    "01",
]


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60), st.lists(st.sampled_from(PIECES + MORE), max_size=25).map("".join)
    )
)
def test_any_text_is_read_or_refused_with_a_sentence(text):
    try:
        document = Document("f.yaml", text)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(document.data, dict)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc é:#1-\n'", max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(PLAIN)
def test_what_was_written_is_read_again(value):
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml("f.yaml", text).value == value


@pytest.mark.parametrize(
    "text", [BOMB, "a: [*a]", "- " * 40, "[" * 3000, 'a: "\\U99999999"', "%YAML 1." + "9" * 5000]
)
def test_without_the_c_library_the_same_is_refused(monkeypatch, text):
    monkeypatch.setattr(bounded_yaml, "LOADER", yaml.SafeLoader)
    assert refusal(text)
    assert parse_yaml("f", "a: {b: [1, x]}").value == {"a": {"b": [1, "x"]}}
