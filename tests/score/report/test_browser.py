"""The page in a real browser: nothing fails, nothing is fetched, both themes, paper, a phone."""

import shutil
from functools import cache

import pytest

from ser.score.report.run import write_report
from ser.score.report.sections import sections

CHROME = shutil.which("chromium") or shutil.which("google-chrome")
PLOT = "document.querySelector('#figure-top-k')._fullLayout"
WHITE, BLACK = "rgb(255, 255, 255)", "rgb(22, 25, 29)"
pytestmark = pytest.mark.skipif(CHROME is None, reason="there is no Chrome or Chromium")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROME, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(whole, browser):
    """Open the report once in each theme; return the page, its errors, the requested addresses."""
    write_report(whole, ())

    @cache
    def open_page(scheme="light"):
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(120_000)
        wrong, requested = [], []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto((whole.run / "report" / "report.html").as_uri())
        page.wait_for_selector("#figure-top-k .main-svg")
        return page, wrong, requested

    return open_page


def paper(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def plot_paper(page):
    return page.evaluate(f"{PLOT}.paper_bgcolor")


@pytest.mark.parametrize(
    ("scheme", "colour"),
    [("light", WHITE), pytest.param("dark", BLACK, marks=pytest.mark.slow)],
)
def test_every_figure_is_drawn_in_the_theme_and_nothing_goes_wrong(visit, whole, scheme, colour):
    page, wrong, requested = visit(scheme)
    assert (wrong, {url.split(":")[0] for url in requested} <= {"file", "data"}) == ([], True)
    assert paper(page) == colour
    for figure in (figure for section in sections(whole) for figure in section.figures):
        traces = page.locator(f"#figure-{figure.name} :is(.trace, .hm)")
        assert traces.count() >= 1, figure.name
    assert plot_paper(page) == {WHITE: "#ffffff", BLACK: "#16191d"}[colour]


def test_the_button_changes_the_theme_and_it_is_remembered(visit):
    page, wrong, _ = visit()
    page.click("#toggle")
    assert (paper(page), plot_paper(page)) == (BLACK, "#16191d")
    page.reload()
    page.wait_for_selector("#figure-top-k .main-svg")
    assert (paper(page), plot_paper(page)) == (BLACK, "#16191d")
    page.click("#toggle")
    assert (paper(page), plot_paper(page)) == (WHITE, "#ffffff")
    assert wrong == []


def test_paper_is_light_has_no_button_and_no_player_and_figures_fit_it(visit):
    page, wrong, _ = visit("dark")
    assert page.locator("audio").first.is_visible()
    page.emulate_media(media="print")
    page.wait_for_function(f"{PLOT}.paper_bgcolor == '#ffffff'")
    assert paper(page) == WHITE
    assert not page.locator("#toggle").is_visible()
    assert not page.locator("audio").first.is_visible()
    page.emulate_media(media="screen")
    page.wait_for_function(f"{PLOT}.paper_bgcolor == '#16191d'")
    widths = "[...document.querySelectorAll('[data-figure]')].map(p => p._fullLayout.width)"
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {widths}; }})")
    page.pdf(format="A4")
    assert 600 < max(page.evaluate("window.printed")) <= 680
    page.wait_for_function(f"{PLOT}.paper_bgcolor == '#16191d'")
    assert wrong == []


OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  const beyond = e => !e.closest("table, svg") && e.getBoundingClientRect().right > width + 1;
  const scrolls = e => e.matches("figure .box, nav ul") && e.scrollWidth > e.clientWidth + 1;
  return [...document.querySelectorAll("main *, nav *")].filter(e => beyond(e) || scrolls(e))
    .map(e => e.querySelector("[id]")?.id || e.id || e.className || e.tagName);
}"""
LINES = """() => {
  const range = document.createRange();
  range.selectNodeContents(document.querySelector("#summary"));
  return new Set([...range.getClientRects()].map(b => Math.round(b.top))).size;
}"""


def require_it_fits(page, width):
    """Assert that nothing is clipped or scrolled sideways, and that matrices are square."""
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OVERFLOW) == []
    for name in ("confusion", "agreement"):
        cells = page.locator(f"#figure-{name} .hm").first.bounding_box()
        assert cells["width"] == pytest.approx(cells["height"], abs=2)
        assert cells["width"] > 100


def test_it_fits_a_desk_and_a_phone(visit):
    page, wrong, _ = visit()
    require_it_fits(page, 1280)
    boxes = "[...document.querySelectorAll('.box')].filter(b => b.scrollWidth > b.clientWidth)"
    assert page.evaluate(f"{boxes}.length") == 0
    assert page.evaluate(LINES) == 1
    assert page.locator(".details").bounding_box()["height"] < 30
    curves = page.locator("#figure-curves")
    assert curves.bounding_box()["height"] == 260  # panels side by side
    page.set_viewport_size({"width": 390, "height": 900})
    page.wait_for_function("document.querySelector('#figure-curves').clientHeight > 260")
    page.wait_for_function(f"({OVERFLOW})().length === 0")  # each figure takes its own time
    require_it_fits(page, 390)
    assert page.evaluate("document.querySelector('#table-systems').scrollWidth") > 390  # in its box
    assert curves.bounding_box()["height"] == 440  # below each other
    page.set_viewport_size({"width": 1280, "height": 900})
    assert wrong == []
