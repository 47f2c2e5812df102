"""Tables that commands print."""

import polars as pl

from ser.commands import output


def test_a_long_table_is_printed_like_a_short_one(capsys, monkeypatch):
    frame = pl.DataFrame({"head": ["a", "bb"], "n": [1, None], "dev score": ["0.5", None]})
    output.print_frame(frame)
    short = capsys.readouterr().out
    monkeypatch.setattr(output, "LONG", 1)
    output.print_frame(frame)
    assert capsys.readouterr().out == short
