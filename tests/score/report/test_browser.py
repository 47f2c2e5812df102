"""The page in a real browser: nothing fails, nothing is fetched, both themes, paper, a phone."""

import shutil

import pytest

from score.report.run import write_report
from score.report.sections import sections

CHROME = shutil.which("chromium") or shutil.which("google-chrome")
PLOT = "document.querySelector('#figure-bins')._fullLayout"
WHITE, BLACK = "rgb(255, 255, 255)", "rgb(22, 25, 29)"
pytestmark = pytest.mark.skipif(CHROME is None, reason="there is no Chrome or Chromium")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROME, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(full, browser):
    """Open the report in a window; return the page, what went wrong, and what was asked for."""
    write_report(full, ())

    def open_page(width=1100, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        wrong, asked = [], []
        page.on("console", lambda said: wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((full.run / "report" / "report.html").as_uri())
        page.wait_for_selector("#figure-bins .main-svg")
        return page, wrong, asked

    return open_page


def paper(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def plot_paper(page):
    return page.evaluate(f"{PLOT}.paper_bgcolor")


@pytest.mark.parametrize(("scheme", "colour"), [("light", WHITE), ("dark", BLACK)])
def test_every_figure_is_drawn_in_the_theme_and_nothing_goes_wrong(visit, full, scheme, colour):
    page, wrong, asked = visit(scheme=scheme)
    assert (wrong, {url.split(":")[0] for url in asked} <= {"file", "data"}) == ([], True)
    assert paper(page) == colour
    for figure in (figure for section in sections(full) for figure in section.figures):
        traces = page.locator(f"#figure-{figure.name} :is(.trace, .hm)")
        assert traces.count() >= 1, figure.name
    assert plot_paper(page) == {WHITE: "#ffffff", BLACK: "#16191d"}[colour]


def test_the_button_changes_the_theme_and_it_is_remembered(visit):
    page, wrong, _ = visit()
    page.click("#toggle")
    assert (paper(page), plot_paper(page)) == (BLACK, "#16191d")
    page.reload()
    page.wait_for_selector("#figure-bins .main-svg")
    assert (paper(page), plot_paper(page)) == (BLACK, "#16191d")
    page.click("#toggle")
    assert (paper(page), plot_paper(page)) == (WHITE, "#ffffff")
    assert wrong == []


def test_paper_is_light_has_no_button_and_no_player_and_figures_fit_it(visit):
    page, wrong, _ = visit(scheme="dark")
    assert page.locator("audio").first.is_visible()
    page.emulate_media(media="print")
    page.wait_for_function(f"{PLOT}.paper_bgcolor == '#ffffff'")
    assert paper(page) == WHITE
    assert not page.locator("#toggle").is_visible()
    assert not page.locator("audio").first.is_visible()
    page.emulate_media(media="screen")
    page.wait_for_function(f"{PLOT}.paper_bgcolor == '#16191d' && {PLOT}.width > 900")
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {PLOT}.width; }})")
    page.pdf(format="A4")
    assert page.evaluate("window.printed") == 680
    page.wait_for_function(f"{PLOT}.paper_bgcolor == '#16191d' && {PLOT}.width > 900")
    assert wrong == []


def test_on_a_phone_tables_scroll_and_the_page_does_not(visit):
    page, _, _ = visit(width=380)
    assert page.evaluate("document.documentElement.scrollWidth") == 380
    assert page.evaluate("document.querySelector('#table-systems').scrollWidth") > 380
