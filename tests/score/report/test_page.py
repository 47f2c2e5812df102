import json
import re

from ser.score.report.page import render_page
from ser.score.report.section import Section
from ser.score.report.sections import sections
from tests.score.report.conftest import NAUGHTY


def test_text_of_the_user_is_escaped(whole):
    page = render_page(NAUGHTY, sections(whole))
    assert NAUGHTY not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;") == 20 + 2
    assert "<b>calm</b>" not in page


def test_figures_come_back_from_the_page_as_they_were(whole):
    shown = sections(whole)
    page = render_page("x", shown)
    text = re.search(r'<script type="application/json" id="figures-json">(.*?)</script>', page)[1]
    assert "<" not in text
    data = json.loads(text)
    drawn = [figure for section in shown for figure in section.figures]
    assert list(data["figures"]) == [figure.name for figure in drawn]
    for figure in drawn:
        plot = data["figures"][figure.name]["plot"]
        assert plot["data"] == json.loads(figure.plot.to_json())["data"]
        assert page.count(f'data-figure="{figure.name}"') == 1
    assert list(data["templates"]) == ["light", "dark"]


def test_no_section_takes_an_id_of_the_page(whole):
    page = render_page("x", [*sections(whole), Section("data", "Data", "Rows.")])
    page = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.S)
    ids = re.findall(r'\bid="?([\w-]+)', page)
    assert "data" in ids and len(ids) == len(set(ids))


def test_a_page_without_figures_carries_no_plotly():
    page = render_page("x", [Section("result", "Result", "Nothing.")])
    assert len(page) < 20_000
    assert "<p id=summary>Nothing.</p>" in page


def test_only_the_players_lead_elsewhere(whole):
    page = render_page("x", sections(whole))
    page = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    links = re.findall(r'(?:src|href)="([^"#]*)[^"]*"', page)
    assert set(links) == {"data:,", "", "../audio/a%20clip.wav"}
    assert page.count('preload="none"') == 20
