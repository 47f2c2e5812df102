"""A JSON record is read in bounded memory, and whatever is wrong with it is one sentence."""

import os
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from ser.cache.json_file import read_object
from ser.cache.record import FileName, Labels, Record
from ser.corpus.errors import DamagedError


class Example(Record):
    remedy: ClassVar[str] = "make it again"

    name: FileName = "a"
    size: Annotated[int, Field(ge=1, le=9)] = 1
    share: float | None = None
    labels: Labels = Field(default_factory=lambda: ["x"])


def problem(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DamagedError) as error:
        Example.read(path)
    assert str(error.value) == f"{path}: {error.value.problem}; make it again."
    return error.value.problem


def test_what_is_written_is_read(tmp_path):
    record = Example(name="b", share=0.1)
    record.write(tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    assert text == '{\n "name": "b",\n "share": 0.1,\n "crc32c": "f5f4d361"\n}\n'
    assert Example.read(tmp_path / "r.json") == record


def test_a_changed_value_is_found_by_the_checksum(tmp_path):
    path = tmp_path / "r.json"
    Example(name="b", share=0.1).write(path)
    text = path.read_text()
    path.write_text(text.replace("0.1", "0.3"))
    with pytest.raises(DamagedError, match="its checksum is not that of its content"):
        Example.read(path)
    # a file with checksums of others must have its own
    path.write_text('{"checksums": {"f": "0"}, "name": "b"}')
    with pytest.raises(DamagedError, match="its checksum is not that of its content"):
        Example.read(path)


def test_unknown_keys_are_left_out_and_nan_is_none(tmp_path):
    path = tmp_path / "r.json"
    path.write_text('{"newer": 1, "share": NaN}')
    assert Example.read(path) == Example(share=None)
    path.write_text('{"share": 1e999}')
    assert Example.read(path).share is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "it is not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        (b'{"name": "a"', "it is not valid JSON (Expecting ',' delimiter: line 1 column 13"),
        (b"\xff\xfe{}", "it is not UTF-8"),
        (b"[]", "it holds no JSON object"),
        (b'{"x": ' + b"[" * 100_000, "it is nested too deep"),
        (b'{"x": ' + b"[" * 70 + b"]" * 70 + b"}", "it is nested too deep"),
        (b'{"x": ' + b"9" * 6000 + b"}", "an integer in it is too large"),
        (b'{"x": ' + b"9" * 4000 + b"}", "an integer in it is too large"),
        (b" " * (1 << 24) + b"{}", "it is larger than 16777216 bytes"),
        (b'{"name": "../a"}', "'name' is not valid: it must match pattern"),
        (b'{"name": "a\\n"}', "'name' is not valid: it must match pattern"),
        (b'{"name": ["a"]}', "'name' is not valid: it must be text"),
        (b'{"size": 1000000000}', "'size' is not valid: it must be less than or equal to 9"),
        (b'{"size": "2"}', "'size' is not valid: it must be a valid integer"),
        (b'{"size": true}', "'size' is not valid: it must be a valid integer"),
        (b'{"size": NaN}', "'size' is not valid: it must be a valid integer"),
        (b'{"labels": ["a", "a"]}', "'labels' is not valid: a name appears twice"),
        (b'{"labels": ["a\\u001b"]}', "'labels.0' is not valid: it must match pattern"),
        (b'{"labels": []}', "'labels' is not valid: it must have at least 1 entry"),
    ],
)
def test_a_problem_is_reported_in_one_sentence(tmp_path, content, expected):
    assert problem(tmp_path / "r.json", content).startswith(expected)


def test_a_missing_file(tmp_path):
    with pytest.raises(DamagedError, match=r"none.json: it is missing; do this.$"):
        read_object(tmp_path / "none.json", "do this")


def test_a_record_that_may_not_be_read_is_not_called_damaged(tmp_path):
    path = tmp_path / "r.json"
    Example().write(path)
    path.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:  # who may read everything
            os.seteuid(65_534)
        with pytest.raises(PermissionError):
            Example.read(path)
    finally:
        if root:
            os.seteuid(0)
