import codecs
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ser.corpus.errors import UserError
from ser.corpus.tables import find_column, read_table

ROWS = [("file", "emotion", "text"), ("1.wav", "sad", "No, no"), ("2.wav", "", 'a "b" c')]
ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
}


def read(folder: Path, content: str | bytes, name: str = "t.csv", **options: str) -> pl.DataFrame:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, **options).frame


def refusal(folder: Path, content: str | bytes, name: str = "t.csv", **options: str) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, content, name, **options)
    return str(caught.value).removeprefix(f"{folder / name}: ")


def cell(text: str | None, separator: str, quote: bool) -> str:
    """Write a cell as a spreadsheet does."""
    if text is None:
        return ""
    if quote or not text or any(c in text for c in (separator, '"', "\r", "\n")):
        return '"' + text.replace('"', '""') + '"'
    return text


WORDS = st.text(st.sampled_from("aé7 .:\\'\"#,;|\t-=\n\r"), max_size=8).map(str.strip)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_table_is_read_back_whatever_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    separator = data.draw(st.sampled_from(",;\t|"))
    encoding = data.draw(st.sampled_from(sorted(ENCODINGS)))
    line_ends = data.draw(st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1, max_size=3))
    padding = data.draw(st.sampled_from(["", " ", "\u00a0 "]))
    quote = data.draw(st.booleans())
    width = data.draw(st.integers(2, 5))
    row = st.lists(st.none() | WORDS, min_size=width, max_size=width).filter(
        lambda cells: any(c and c.strip("-=: \t\r\n") for c in cells)  # else it is a rule
    )
    rows = data.draw(st.lists(row, min_size=1, max_size=6))
    if width > 2:  # a cell of several rows is taken for rows; see the test of its own
        rows = [[c.replace("\n", "").replace("\r", "") if c else c for c in r] for r in rows]
        rows = [r for r in rows if any(r)] or [["x"] * width]
    names = [f"column {i}" for i in range(width)]
    blank = padding if separator not in padding else ""
    text = ""
    for i, cells in enumerate([names, *rows]):
        written = (blank + cell(c, separator, quote) + blank for c in cells)
        text += separator.join(written) + line_ends[i % len(line_ends)]
        text += data.draw(st.sampled_from(["", "", separator * (width - 1) + "\n"]))
    path = tmp_path_factory.getbasetemp() / "property.csv"
    path.write_bytes(ENCODINGS[encoding] + text.encode(encoding))
    table = read_table(path, separator=None if separator == "," else separator)
    assert table.frame.columns == names
    assert [list(r) for r in table.frame.rows()] == rows


@pytest.mark.parametrize("separator", list(",;\t|"))
@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_separator_encoding_and_line_ends_are_seen(
    tmp_path: Path, separator: str, encoding: str, line_end: str
) -> None:
    lines = (separator.join(cell(c, separator, False) for c in row) for row in ROWS)
    text = line_end.join(lines)
    frame = read(tmp_path, ENCODINGS[encoding] + text.encode(encoding))
    assert frame.rows() == [("1.wav", "sad", "No, no"), ("2.wav", "", 'a "b" c')]
    assert frame.columns == ["file", "emotion", "text"]


def test_blanks_around_names_and_cells_are_stripped(tmp_path: Path) -> None:
    frame = read(tmp_path, 'file , emotion,\u00a0text\n 1.wav,sad\u00a0, "a, b" \n2.wav,  ,""\n')
    assert frame.columns == ["file", "emotion", "text"]
    assert frame.rows() == [("1.wav", "sad", "a, b"), ("2.wav", None, "")]


def test_blank_rows_and_unnamed_empty_columns_are_skipped(tmp_path: Path) -> None:
    frame = read(tmp_path, "\n\nfile,emotion,,\n\n1.wav,sad\n,,,\n  ,\n2.wav,,,\n\n")
    assert frame.columns == ["file", "emotion"]
    assert frame.rows() == [("1.wav", "sad"), ("2.wav", None)]


def test_a_column_of_row_numbers_has_no_name(tmp_path: Path) -> None:
    frame = read(tmp_path, ",file\n0,1.wav\n1,2.wav\n")
    assert frame.columns == ["", "file"]
    assert read(tmp_path, ",,file\n0,5,1.wav\n").columns == ["(column 1)", "(column 2)", "file"]


def test_a_separator_may_be_announced_or_forced(tmp_path: Path) -> None:
    assert read(tmp_path, "sep=|\na,b|c\n1,2|3\n").rows() == [("1,2", "3")]
    assert read(tmp_path, "a b\n1 2\n", separator=" ").rows() == [("1", "2")]
    assert read(tmp_path, "a;b,c\n1;2,3\n", separator="comma").rows() == [("1;2", "3")]
    assert read(tmp_path, "a\tb\n1\t2\n", separator="\\t").rows() == [("1", "2")]
    assert refusal(tmp_path, "a\n1\n", separator="::") == (
        "option separator is '::'; give one character, or comma, semicolon, tab, bar."
    )


def test_a_table_of_one_column_has_no_separator(tmp_path: Path) -> None:
    assert read(tmp_path, "path\n1.wav\n2.wav\n").rows() == [("1.wav",), ("2.wav",)]


def test_separators_in_text_do_not_mislead(tmp_path: Path) -> None:
    text = "file;emotion, seen;text\n1.wav;sad;Well, no\n2.wav;fear;Oh\n"
    assert read(tmp_path, text).columns == ["file", "emotion, seen", "text"]


def test_quotation_marks_inside_text_are_text(tmp_path: Path) -> None:
    rows = ['1\t"What?" she said\ts1', '2\tShe said "no"\ts1', '3\t"Open\ts2', '4\t"a ""b"""\ts3']
    frame = read(tmp_path, "\n".join(["file\ttext\tspeaker", *rows]))
    assert frame["text"].to_list() == ['"What?" she said', 'She said "no"', '"Open', 'a "b"']
    assert frame["speaker"].to_list() == ["s1", "s1", "s2", "s3"]


def test_a_speech_over_several_utterances_loses_no_row(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('file\ttext\tspeaker\n1\t"I have\ts1\n2\ta dream\ts1\n3\ttoday."\ts1\n')
    table = read_table(path)
    assert table.frame["text"].to_list() == ['"I have', "a dream", 'today."']
    assert table.notes == ("quotation marks read as text: 1 cell, the first in line 2",)
    whole = read_table(path, quotes="cells").frame
    assert whole["text"].to_list() == ["I have\ts1\n2\ta dream\ts1\n3\ttoday."]


def test_quotation_marks_may_always_be_text(tmp_path: Path) -> None:
    assert read(tmp_path, 'a,b\n"x","y"\n', quotes="text").rows() == [('"x"', '"y"')]
    assert refusal(tmp_path, "a,b\n1,2\n", quotes="no") == (
        "option quotes is 'no'; use cells or text, or leave it out."
    )


def test_a_cell_of_several_lines_is_one_cell(tmp_path: Path) -> None:
    text = 'file,text,emotion\n1.wav,"Yes, he said,\nand left.",sad\n2.wav,x,fear\n3.wav\n'
    assert read(tmp_path, text.removesuffix("3.wav\n")).rows() == [
        ("1.wav", "Yes, he said,\nand left.", "sad"),
        ("2.wav", "x", "fear"),
    ]
    assert refusal(tmp_path, text).startswith("line 5 has 1 cell, fewer than the header with 3; ")


def test_a_very_long_cell_is_read(tmp_path: Path) -> None:
    long = "word, " * 100_000
    (row,) = read(tmp_path, f'file,text\n1.wav,"{long}"\n').rows()
    assert row == ("1.wav", long.strip())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this table is empty; give one with a header line and rows."),
        (b"\n , \n", "this table is empty; give one with a header line and rows."),
        (b"a,b\n\n", "this table has a header line only; add one row per utterance."),
        (b"a,b,a\n1,2,3\n", "two columns are called 'a'; rename one of them."),
        (
            b"a,b\n1,2\n\n1,2,3\n",
            "line 4 has 3 cells, more than the header with 2; enclose a cell that contains the "
            'separator in quotation marks ("…").',
        ),
        (
            b"a,b\r1,2\r1\r",
            "line 3 has 1 cell, fewer than the header with 2; write a separator for every cell, "
            "also for empty ones.",
        ),
        (
            "file,text\n1,a\n2,über\n".encode("cp1252"),
            "line 3 is not UTF-8; save the table as UTF-8 (Excel: 'CSV UTF-8'), or import it with "
            "encoding=cp1252 or the name of its encoding.",
        ),
        (
            "a,b\n1,2\n".encode("utf-16-le"),
            "not text in UTF-8, but perhaps in UTF-16 without a byte order mark; save the table as "
            "UTF-8, or import it with encoding=utf-16-le.",
        ),
        (
            b"PK\x03\x04rest of a workbook",
            "this is a spreadsheet or an archive; save it as CSV UTF-8, and use that file.",
        ),
        (b"\x1f\x8bx", "this is compressed; unpack it, and use that file."),
        (b'{"a": 1}\n', "this is JSON, not a table; write it as .csv with a header line."),
    ],
)
def test_what_is_no_table_is_reported_in_one_sentence(
    tmp_path: Path, content: bytes, message: str
) -> None:
    assert refusal(tmp_path, content) == message


def test_an_encoding_may_be_named(tmp_path: Path) -> None:
    content = "file,text\n1,über\n".encode("cp1252")
    assert read(tmp_path, content, encoding="cp1252").rows() == [("1", "über")]
    assert read(tmp_path, "a\nü\n".encode("utf-16-le"), encoding="utf-16-le").rows() == [("ü",)]
    for name in ("cp1253x", "base64", "ascii", "x\0"):
        assert refusal(tmp_path, content, encoding=name).startswith("not readable with encoding=")


def test_parquet_is_recognized_by_its_content(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "t.csv")
    table = read_table(tmp_path / "t.csv")
    assert (table.frame.rows(), table.separator) == ([(1,)], None)
    whole = (tmp_path / "t.csv").read_bytes()
    for damaged in (whole[:20], whole[:-20] + b"\xff" * 12 + whole[-8:], whole.replace(b"a", b"")):
        assert refusal(tmp_path, damaged, "t.parquet").startswith("not readable as a table (")


def test_decimal_commas_are_points_unless_commas_separate(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("file;start;text\n1;0,25;0,5\n2;1.234,5;x\n3;,5;\n")
    points = read_table(path).decimal_points(["start", "end"])
    assert points["start"].to_list() == ["0.25", "1.234,5", ".5"]
    assert points["text"].to_list() == ["0,5", "x", None]
    path.write_text("file\tstart\n1\t0,25\n2\t1,234\n3\t1,2345\n")
    assert read_table(path).decimal_points(["start"])["start"].to_list() == [
        "0.25",
        "1,234",
        "1.2345",
    ]
    path.write_text('file,start\n1,"1,234"\n')
    assert read_table(path).decimal_points(["start"])["start"].to_list() == ["1,234"]


def test_column_names_are_case_insensitive() -> None:
    assert find_column(["File", "EMOTION"], "emotion", "t.csv", "rename one") == "EMOTION"
    assert find_column(["File"], "emotion", "t.csv", "rename one") is None
    with pytest.raises(UserError, match=r"'a' and 'A' differ only in case; rename one"):
        find_column(["a", "A"], "a", "t.csv", "rename one")


@settings(deadline=None)
@given(content=st.binary(max_size=60) | st.text('a,;"\t\r\n ', max_size=40).map(str.encode))
def test_any_bytes_are_a_table_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        frame = read_table(path).frame
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert frame.height > 0


def test_a_table_has_so_many_columns_and_no_more(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(10_000)]
    assert read(tmp_path, ",".join(names) + "\n" + ",".join(names)).width == 10_000
    expected = (
        "this table has 10,001 columns, more than the limit of 10,000; keep only those "
        "that describe the utterances."
    )
    wide = [*names, "one"]
    assert refusal(tmp_path, ",".join(wide) + "\n" + ",".join(wide)) == expected
    pl.DataFrame({name: [""] for name in wide}).write_parquet(tmp_path / "w.parquet")
    content = (tmp_path / "w.parquet").read_bytes()
    assert refusal(tmp_path, content, "t.parquet") == expected


@pytest.mark.parametrize("end", ["\x1a", "\n\x1a", "\r\n\x1a\r\n"])
def test_the_end_mark_of_dos_is_not_a_row(tmp_path: Path, end: str) -> None:
    assert read(tmp_path, f"file,emotion\n1.wav,sad{end}").rows() == [("1.wav", "sad")]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("file | emotion\n---|---\n1.wav | sad\n", "---"),
        ("| file | emotion |\n|:--|--:|\n| 1.wav | sad |\n", ":--"),
        ("file|emotion\n-|-\n1.wav|sad\n", "-"),
        ("file | emotion\n-----+--------\n1.wav | sad\n", "-----+--------"),
        ("+---+---+\n| file | emotion |\n+---+---+\n", "+---+---+"),
        ("file\temotion\n====\t====\n1.wav\tsad\n", "===="),
    ],
)
def test_a_table_drawn_with_lines_is_reported_in_one_sentence(
    tmp_path: Path, content: str, rule: str
) -> None:
    assert refusal(tmp_path, content) == (
        f"this is a table in Markdown or drawn with lines ({rule}); save it as .csv with a header "
        "line and no rules."
    )


def test_a_document_in_rtf_is_called_so(tmp_path: Path) -> None:
    assert refusal(tmp_path, "{\\rtf1\\ansi file,emotion}") == (
        "this is a document in RTF; save the table as CSV UTF-8, and use that file."
    )
