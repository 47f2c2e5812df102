"""Tables of 80 columns whose names and numbers stay whole."""

import io

from rich import box
from rich.console import Console
from rich.table import Table

from ser.corpus.text_table import long_table, print_table


def printed(table, width, cut=""):
    file = io.StringIO()
    print_table(table, Console(file=file, width=width, markup=False), cut)
    return file.getvalue().splitlines()


def heads(*rows):
    table = Table("head", "features", "sampler", box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("dev", justify="right")
    for row in rows:
        table.add_row(*row)
    return table


ROW = ("whisper-roberta", "whisper roberta", "neutral_expressive", "0.5 [.4, .6]*")


def test_a_cell_does_not_control_the_terminal():
    lines = printed(heads(("\x1b[31ma\nb\u202ec", "", "", "")), 80)
    assert [line.split() for line in lines[3:5]] == [["[31ma"], ["b", "c"]]


def test_a_table_that_fits_is_left_as_it_is():
    assert printed(heads(ROW), 80)[1:4:2] == [
        " head             features         sampler                       dev  ",
        " whisper-roberta  whisper roberta  neutral_expressive  0.5 [.4, .6]*  ",
    ]


def test_cells_are_wrapped_between_words_and_neither_in_names_nor_in_intervals():
    lines = printed(heads(ROW), 64)
    assert lines[3:5] == [
        " whisper-roberta  whisper   neutral_expressive  0.5 [.4, .6]*  ",
        "                  roberta                                      ",
    ]
    lines = printed(heads(ROW), 60)
    assert lines[3:5] == [
        " whisper-roberta  whisper   neutral_expressive        0.5  ",
        "                  roberta                       [.4, .6]*  ",
    ]


def test_the_column_that_may_be_cut_is_cut_last():
    lines = printed(heads(ROW), 51, cut="sampler")
    assert lines[3:5] == [
        " whisper-roberta  whisper   neutral_e…        0.5  ",
        "                  roberta               [.4, .6]*  ",
    ]


def test_a_table_of_long_words_is_wider_than_the_terminal():
    lines = printed(heads(ROW), 30)
    assert lines[3].split() == ["whisper-roberta", "whisper", "neutral_expressive", "0.5"]


def test_wide_characters_and_empty_tables_are_measured():
    table = heads(("喜び", "", "", "1"))
    assert printed(table, 80)[3] == " 喜び" + " " * 23 + "1  "
    assert printed(heads(), 80)[1] == " head  features  sampler  dev  "


def test_a_path_may_be_broken():
    lines = printed(heads(("one", "/" + 60 * "x", "natural", "0.5")), 70)
    assert [line.split() for line in lines[3:5]] == [
        ["one", "/" + 46 * "x", "natural", "0.5"],
        [14 * "x"],
    ]


def test_a_long_table_is_printed_as_rich_prints_one_that_fits():
    headings = ("head", "features", "sampler", "dev")
    rows = [ROW, ("喜び", "a\x1b[31m", "", "1"), ("", "", "", "")]
    lines = list(long_table(headings, rows, [False, False, False, True]))
    assert lines == printed(heads(*rows), 80)
    assert list(long_table(("a",), [("x\ny",)], [False]))[3] == " x y  "
