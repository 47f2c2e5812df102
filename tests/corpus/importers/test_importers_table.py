from pathlib import Path

from ser.corpus.importers.registry import IMPORTERS, SPECS, option_names

PAGE = Path(__file__).resolve().parents[3] / "docs" / "corpus.md"
MOST = 6  # options; of more, the table says that the page explains them


def row(name: str) -> str:
    options = option_names(name)
    listed = ", ".join(f"`{o}`" for o in options) if len(options) <= MOST else "[below](#any-table)"
    return f"| `{name}` | {IMPORTERS.built_in[name].summary} | {listed} |"


def test_the_page_has_the_table_of_the_registry() -> None:
    table = ["| name | corpus | options |", "|---|---|---|", *map(row, IMPORTERS.built_in)]
    assert "\n".join(table) + "\n\n" in PAGE.read_text("utf-8")


def test_the_page_names_the_corpora_that_are_a_yaml() -> None:
    names = ", ".join(f"`{path.stem}`" for path in sorted(SPECS.glob("*.yaml")))
    assert f"<!-- shipped -->{names}<!-- end -->" in PAGE.read_text("utf-8")
