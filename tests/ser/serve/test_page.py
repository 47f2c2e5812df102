"""The page in a real browser, and its parts."""

import asyncio
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer.testing
from websockets.sync.client import connect

from ser.commands.main import cli
from ser.predict.result import Failure, Result, Segment, Word
from ser.serve.description import describe
from ser.serve.figures import attribute_plane, waveform
from ser.serve.limits import Limits
from ser.serve.parts import LIVE_WINDOWS, about_html, bars_html, transcript_html
from tests.ser.factories import CLASSES
from tests.ser.serve.conftest import files, serving, until

# what reaches beyond the window, but for tables, which scroll in a box of their own
BEYOND = """[...document.querySelectorAll("#about *, #clip, #result *, #bars *, .ser-wide")]
.filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)"""
COLOUR = "() => getComputedStyle(document.querySelector('#result .ser-head')).color"
SEGMENT = Segment(
    0.0,
    2.0,
    "sad",
    {"angry": 0.2, "sad": 0.5, "neutral": 0.3},
    {"arousal": 3.0, "valence": 2.5},
    "so it is",
    {},
)
LONG = Result(
    "a.wav",
    6.0,
    "angry",
    {"angry": 0.5, "sad": 0.3, "neutral": 0.2},
    {"arousal": 4.0, "valence": 3.0},
    "so it is so it is",
    {},
    (SEGMENT, replace(SEGMENT, start=3.0, end=6.0, emotion="angry")),
)


def test_the_waveform_has_a_piece_of_each_segment_in_the_colour_of_its_emotion():
    envelope = np.tile(np.array([[-0.5, 0.25]], np.float32), (300, 1))
    drawn = waveform(LONG, envelope, CLASSES)
    spans = [(t.name, t.fillcolor, min(t.x), max(t.x)) for t in drawn.data[1:]]
    assert spans == [("sad", "#0072b2", 0, 2.0), ("angry", "#d55e00", 3.0, 5.98)]
    assert [(s.x0, s.x1) for s in drawn.layout.shapes] == [(0, 2), (3, 6)]
    assert drawn.data[1].text == "0.0–2.0 s<br>sad 0.50<br>neutral 0.30<br>angry 0.20"
    assert (min(drawn.data[0].y), max(drawn.data[0].y)) == (-0.5, 0.25)


def test_ten_minutes_are_drawn_with_two_thousand_points_and_keep_their_peaks():
    envelope = np.zeros((30_000, 2), np.float32)
    envelope[12_345] = -0.75, 0.5
    drawn = waveform(replace(LONG, seconds=600.0), envelope, CLASSES)
    assert len(drawn.data[0].x) == 2 * 2000
    assert (min(drawn.data[0].y), max(drawn.data[0].y)) == (-0.75, 0.5)


def test_the_plane_has_the_clip_and_its_segments():
    points = [(t.x[0], t.y[0], t.marker.size) for t in attribute_plane(LONG).data]
    assert points == [(2.5, 3.0, 7), (2.5, 3.0, 7), (3.0, 4.0, 15)]


def test_bars_are_ranked_in_the_colours_of_the_waveform():
    html = bars_html(LONG, CLASSES)
    bars = re.findall(r"<span>(\w+)</span><i style=\"width:([\d.]+)%;background:(#\w+)", html)
    assert bars == [
        ("angry", "50.0", "#d55e00"),
        ("sad", "30.0", "#0072b2"),
        ("neutral", "20.0", "#e69f00"),
    ]


def test_the_model_is_described_and_its_card_is_escaped():
    html = about_html("<run>", {"Model": "<b>"}, ["<i>"], "# <script>")
    assert re.findall(r"&lt;\w+&gt;", html) == [
        "&lt;run&gt;",
        "&lt;b&gt;",
        "&lt;i&gt;",
        "&lt;script&gt;",
    ]
    assert "<summary>Model card</summary>" in html
    assert "<details>" not in about_html("run", {}, [], None)


def test_words_are_shaded_by_attention_and_escaped():
    words = (Word("<b>", 0.2), Word("now", 0.8))
    one = replace(LONG, segments=(replace(SEGMENT, words=words),))
    html = transcript_html(one)
    assert 'rgba(213,94,0,0.15)" title="20\xa0% of the attention">&lt;b&gt;</span>' in html
    assert 'rgba(213,94,0,0.60)" title="80\xa0% of the attention">now</span>' in html
    assert transcript_html(replace(LONG, transcript=None)) == ""
    assert "so it is so it is" in transcript_html(LONG)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not (chromium := shutil.which("chromium")):
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--use-fake-device-for-media-stream"]
        )
        yield opened
        opened.close()
    asyncio.set_event_loop(None)  # playwright leaves its own running


def test_an_example_is_tried_and_a_clip_dropped_seen_and_downloaded(
    small, clip, tmp_path, browser, monkeypatch
):
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(small.p, folder, page=True) as server:
        page = browser.new_page(viewport={"width": 1100, "height": 1200})
        page.set_default_timeout(120_000)
        errors, elsewhere = [], []

        def on_console(message):
            # a slow widget may ask for a clip that is answered and deleted already
            if message.type == "error" and "/file=" not in message.location["url"]:
                errors.append(message.text)

        page.on("console", on_console)
        page.on("pageerror", lambda error: errors.append(str(error)))
        own = (server.url, "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(own) else elsewhere.append(r.url))
        page.goto(server.url)
        assert all(text in page.inner_text("#about") for text in describe(small.p).values())
        page.click("#example")
        page.wait_for_selector("#result :text('example.ogg')")
        page.set_input_files("#clip input[type=file]", clip)
        page.wait_for_selector("#result :text('u14.wav')")
        page.wait_for_selector("#waveform .main-svg")
        page.wait_for_selector("#plane .main-svg")
        result = small.p(clip)
        assert result.emotion in page.inner_text("#result")
        assert "u14.wav" in page.inner_text("#result")
        assert {name for name in CLASSES if name in page.inner_text("#bars")} == set(CLASSES)
        assert page.locator("#details table tr").count() == 1 + len(small.p.heads)
        page.wait_for_function("document.querySelector('audio[controls]')?.readyState > 0")
        was = page.evaluate(COLOUR)
        page.click("#theme")
        page.wait_for_function(f"was => ({COLOUR})() != was", arg=was)
        with page.expect_download() as download:
            page.click("text=Download csv")
        assert download.value.suggested_filename == "u14.csv"
        monkeypatch.chdir(clip.parent)
        words = ["predict", "--run", str(small.run), clip.name, "--format", "csv"]
        printed = typer.testing.CliRunner().invoke(cli, words)
        assert printed.stdout.startswith("path,seconds,emotion,p.angry,")
        assert Path(download.value.path()).read_text() == printed.stdout
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 844})
            page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
            page.wait_for_function(f"{BEYOND}.length === 0")
        (tmp_path / "bad.wav").write_text("no audio")
        page.set_input_files("#clip input[type=file]", tmp_path / "bad.wav")
        page.wait_for_selector("#result [role=alert]")
        assert page.inner_text("#result [role=alert]") == (
            "bad.wav: not audio (Format not recognised); send another clip."
        )
        page.wait_for_timeout(500)  # for errors that come late
        page.close()
        assert elsewhere == []
        assert [e for e in errors if "Waveform load error" not in e] == []  # it is no audio
        until(lambda: files(folder) == [])


def test_the_page_opens_by_the_login_form(small, tmp_path, browser):
    with serving(small.p, tmp_path, token="geheim", page=True) as server:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(server.url)
        page.fill("[name=token]", "wrong")
        page.click("button")
        page.fill("[name=token]", "geheim")
        page.click("button")
        page.wait_for_selector("#clip")
        page.close()


@pytest.mark.slow
def test_live_audio_is_shown_by_window_and_what_ends_it_in_a_sentence(
    small, tmp_path, browser, monkeypatch
):
    monkeypatch.setitem(LIVE_WINDOWS, "window", 1)
    monkeypatch.setitem(LIVE_WINDOWS, "hop", 1)
    with serving(small.p, tmp_path, Limits(streams=1, stream_seconds=8), page=True) as server:
        server.service.loading.result(60)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        button, alert = page.locator("#live button"), page.locator("#live [role=alert]")
        status, rows = page.locator("#live [role=status]"), page.locator("#live tbody tr")
        button.click()
        alert.get_by_text("The browser refused the microphone; allow it for this").wait_for()
        page.context.grant_permissions(["microphone"])
        with connect(f"ws://127.0.0.1:{server.port}/live", proxy=None):
            button.click()
            alert.get_by_text("All live streams of the server are in use; try").wait_for()
        until(lambda: b"ser_live_streams 0.0" in server.service.metrics.text())
        button.press("Enter")
        status.get_by_text("Listening; each prediction is for 1 s.").wait_for()
        rows.nth(1).wait_for()
        assert rows.last.locator("td").first.inner_text() == "0.0–1.0 s"
        assert set(page.locator("#live .ser-live-bars span:nth-child(3n+1)").all_inner_texts()) == {
            *CLASSES
        }
        assert not alert.is_visible()
        button.press("Enter")
        status.get_by_text("Stopped.").wait_for()
        assert button.inner_text() == "Live"

        async def markup(piece):
            return Failure("", "<b>loud</b>")

        monkeypatch.setattr(server.service, "predict_window", markup)
        button.click()
        page.locator("#live .ser-live-top").get_by_text("<b>loud</b>").wait_for()
        alert.get_by_text("the stream is longer than 8 s; open another one.").wait_for()
        page.close()
        assert errors == []
