"""Rows in batches: all of them, in order, and bounded."""

from pathlib import Path

import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers import batches
from ser.corpus.importers.batches import read_batches

ROWS = pl.DataFrame({"word": [f"w{i % 3}" for i in range(50)], "data": [bytes(99)] * 50})


def write_stream(path: Path, size: int) -> None:
    """Write an Arrow stream of several batches, as `save_to_disk` does."""
    pa = pytest.importorskip("pyarrow")
    table = ROWS.to_arrow()
    words = table.column("word").dictionary_encode()
    table = table.set_column(0, "word", words)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=size)


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    ROWS.write_parquet(path, row_group_size=7)
    assert [len(frame) for frame in read_batches(path)] == [50]
    monkeypatch.setattr(batches, "BATCH", path.stat().st_size // 4)
    frames = list(read_batches(path))
    assert [len(frame) for frame in frames] == [12, 12, 12, 12, 2]
    assert pl.concat(frames).equals(ROWS)


def test_a_stream_of_one_batch(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    ROWS.write_ipc_stream(path)
    assert pl.concat(read_batches(path)).equals(ROWS)
    ROWS.clear().write_ipc_stream(path)
    (frame,) = read_batches(path)
    assert frame.schema == ROWS.schema
    assert frame.is_empty()


def test_a_stream_of_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.arrow"
    write_stream(path, 20)
    assert [len(frame) for frame in read_batches(path)] == [50]
    monkeypatch.setattr(batches, "BATCH", 1)
    frames = list(read_batches(path))
    assert [len(frame) for frame in frames] == [20, 20, 10]
    assert pl.concat(frame.cast({"word": pl.String}) for frame in frames).equals(ROWS)


def test_a_stream_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    ROWS.head(2).write_ipc_stream(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"a.arrow: not readable \(.*; fetch or save it again"):
        list(read_batches(path))


def test_a_batch_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.arrow"
    ROWS.write_ipc_stream(path)
    monkeypatch.setattr(batches, "LARGEST", 1000)
    with pytest.raises(UserError, match="and the limit is 1,000; save the data set again, with"):
        list(read_batches(path))
