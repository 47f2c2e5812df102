"""Rows in batches: all of them, in order, and bounded."""

from pathlib import Path

import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers import batches
from ser.corpus.importers.batches import read_batches

ROWS = pl.DataFrame({"word": [f"w{i % 3}" for i in range(50)], "data": [bytes(99)] * 50})


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    ROWS.write_parquet(path, row_group_size=7)
    assert [len(frame) for frame in read_batches(path)] == [50]
    monkeypatch.setattr(batches, "BATCH", path.stat().st_size // 4)
    frames = list(read_batches(path))
    assert [len(frame) for frame in frames] == [12, 12, 12, 12, 2]
    assert pl.concat(frames).equals(ROWS)


def test_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    ROWS.write_ipc_stream(path)
    assert pl.concat(read_batches(path)).equals(ROWS)
    ROWS.clear().write_ipc_stream(path)
    (frame,) = read_batches(path)
    assert frame.schema == ROWS.schema
    assert frame.is_empty()


def test_a_stream_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    ROWS.head(2).write_ipc_stream(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"a.arrow: not readable \(.*; fetch or save it again"):
        list(read_batches(path))


def test_a_stream_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.arrow"
    ROWS.write_ipc_stream(path)
    monkeypatch.setattr(batches, "LARGEST", 1000)
    with pytest.raises(UserError, match="and the limit is 1,000; save the data set again, in"):
        list(read_batches(path))
