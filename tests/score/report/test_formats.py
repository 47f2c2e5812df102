import polars as pl

from ser.score.report.formats import Table

FRAME = pl.DataFrame(
    {
        "Head": ["a_b|c", "<i> & 5 %"],
        "F1": [0.5, 0.61249],
        "95 %": [[0.4, 0.6], None],
        "n": [12, None],
        "Gap": [-0.1, 0.25],
    },
    schema_overrides={"95 %": pl.List(pl.Float64)},
)
TABLE = Table("x-y", "F1 & gap", FRAME, best=("F1",), digits={"Gap": 1})


def test_cells_are_formatted_by_their_type():
    assert TABLE.rows() == [
        ["a_b|c", "0.500", "[0.400, 0.600]", "12", "-0.1"],
        ["<i> & 5 %", "0.612", "–", "–", "0.2"],
    ]
    assert TABLE.is_text == [True, False, False, False, False]


def test_the_highest_is_bold_and_so_is_what_looks_the_same():
    frame = pl.DataFrame({"x": [0.12345, 0.12349, 0.1, None], "y": [None] * 4})
    table = Table("t", "", frame.cast(pl.Float64), best=("x", "y"))
    assert table.bold() == {(0, 0), (1, 0)}


def test_markdown():
    assert TABLE.markdown() == (
        "F1 &amp; gap\n"
        "\n"
        "| Head | F1 | 95 % | n | Gap |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| a\\_b\\|c | 0.500 | [0.400, 0.600] | 12 | -0.1 |\n"
        "| &lt;i> &amp; 5 % | **0.612** | – | – | 0.2 |\n"
    )


def test_latex():
    assert TABLE.latex().splitlines() == [
        r"\begin{table}",
        r"  \centering",
        r"  \small",
        r"  \caption{F1 \& gap}",
        r"  \label{tab:x-y}",
        r"  \begin{tabular}{lrrrr}",
        r"    \toprule",
        r"    Head & F1 & 95 \% & n & Gap \\",
        r"    \midrule",
        r"    a\_b|c & 0.500 & [0.400, 0.600] & 12 & $-$0.1 \\",
        r"    \textless{}i\textgreater{} \& 5 \% & \textbf{0.612} & -- & -- & 0.2 \\",
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]


def test_every_special_character_of_latex_is_escaped():
    latex = Table("t", "\\ ~ ^ { } $ & # % _", pl.DataFrame({"x": [1]})).latex()
    assert (
        r"\caption{\textbackslash{} \textasciitilde{} \textasciicircum{} \{ \} \$ \& \# \% \_}"
        in latex
    )


def test_a_row_that_begins_with_an_interval_is_not_an_option_of_the_line_before():
    frame = pl.DataFrame({"bin": [[0.0, 0.5], [0.5, 1.0]]})
    lines = Table("t", "", frame, digits={"bin": 1}).latex().splitlines()
    assert lines[9:11] == [r"    {}[0.0, 0.5] \\", r"    {}[0.5, 1.0] \\"]


def test_a_wide_table_spans_the_columns_of_a_page_and_long_text_wraps():
    frame = pl.DataFrame({f"c{i}": ["x"] for i in range(7)})
    lines = Table("t", "", frame, wraps="c2").latex().splitlines()
    assert (lines[0], lines[-1]) == (r"\begin{table*}", r"\end{table*}")
    assert lines[5] == r"  \begin{tabular}{llp{0.3\linewidth}llll}"


def test_a_line_break_in_a_cell_does_not_break_the_row():
    table = Table("t", "", pl.DataFrame({"x": ["one\ntwo"]}))
    assert table.markdown().splitlines()[-1] == "| one two |"
    assert r"    one two \\" in table.latex().splitlines()


def test_names_do_not_become_formulas_or_options_of_the_row_before():
    table = Table("t", "", pl.DataFrame({"x": ["$a$", "*sad"]}))
    assert "| \\$a\\$ |" in table.markdown()
    assert "    {}*sad \\\\" in table.latex().splitlines()
