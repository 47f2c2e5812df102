"""The pictures of the documentation's first page; `make pictures` takes them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_first_page_has_a_picture_of_the_report_and_of_the_page():
    names = re.findall(r"\]\(images/([\w.]+)\)", (DOCS / "index.md").read_text(encoding="utf-8"))
    assert names == ["report.png", "page.png"]
    for name in names:
        picture = (DOCS / "images" / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) <= 150_000
