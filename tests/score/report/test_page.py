import json
import re

from score.report.page import render_page
from score.report.sections import Section, sections
from tests.score.report.conftest import NAUGHTY


def test_text_of_the_user_is_escaped(full):
    page = render_page(NAUGHTY, sections(full))
    assert NAUGHTY not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;") == 20 + 2
    assert "<b>calm</b>" not in page


def test_figures_come_back_from_the_page_as_they_were(full):
    made = sections(full)
    page = render_page("x", made)
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1]
    assert "<" not in text
    data = json.loads(text)
    drawn = [figure for section in made for figure in section.figures]
    assert list(data["figures"]) == [figure.name for figure in drawn]
    for figure in drawn:
        assert data["figures"][figure.name]["data"] == json.loads(figure.plot.to_json())["data"]
        assert page.count(f'data-figure="{figure.name}"') == 1
    assert list(data["templates"]) == ["light", "dark"]


def test_a_page_without_figures_carries_no_plotly():
    page = render_page("x", [Section("headline", "In one line", "Nothing.")])
    assert len(page) < 20_000
    assert "<p>Nothing.</p>" in page


def test_only_the_players_lead_elsewhere(full):
    page = render_page("x", sections(full))
    page = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    links = re.findall(r'(?:src|href)="([^"#]*)[^"]*"', page)
    assert set(links) == {"data:,", "", "../audio/a%20clip.wav"}
    assert page.count('preload="none"') == 20
