"""The documentation site: it builds, its links lead somewhere, and it fetches nothing."""

import importlib.util
import re
import shutil
import subprocess
import sys
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import numpy as np
import polars as pl
import pytest
import soundfile
from typer.main import get_command

from ser.commands.main import cli
from ser.commands.runs import LIST, RunsGroup
from ser.pipeline.file import Pipeline
from tests.ser.factories import bash, tone

pytest.importorskip("zensical")
ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
CHROME = shutil.which("chromium") or shutil.which("google-chrome")
FETCHED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """Collect a page's ids, what it links to, and what a browser fetches to show it."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.fetched = set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        for key in ("href", "src"):
            if attrs.get(key):
                self.links.append(attrs[key])
                if (tag, key) in FETCHED or tag == "link":
                    self.fetched.append(attrs[key])


@pytest.fixture(scope="module")
def site(build_once):
    return build_once("site", build_site)


def build_site(folder):
    command = [sys.executable, "docs/build.py", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_link_leads_to_a_file_and_every_fragment_to_an_id(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            base = site if to.path.startswith("/") else path.parent
            target = (base / unquote(to.path).lstrip("/")).resolve() if to.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (
                to.fragment and target in pages and unquote(to.fragment) not in pages[target].ids
            ):
                broken.append((path.name, link))
    assert len(pages) > 25
    assert broken == []


def test_a_link_to_a_file_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("build", ROOT / "docs" / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("[one](../presets/no.yaml)\n")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"docs/a\.md: \.\./presets/no\.yaml does not exist"):
        build.prepare(tmp_path / "pages")


def test_nothing_is_fetched_from_elsewhere(site, pages):
    fetched = {link for page in pages.values() for link in page.fetched}
    assert {link for link in fetched if urlsplit(link).netloc} == set()
    styles = " ".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*|@import[^;]*", styles) == []
    assert not any('class="mermaid"' in path.read_text() for path in pages)  # its script is a CDN's


def test_files_outside_docs_are_shown_whole(site):
    shown = (site / "source" / "pipeline.yaml.html").read_text()
    text = re.sub(r"<[^>]+>", "", shown)
    assert "whisper-roberta-ns3-wce-sml" in text
    assert "# [P 4.2] 200 estimators, depth 8, gini, leaf and split of 10" in text


def test_what_tests_need_is_not_shown(site):
    assert "the run of these examples" not in (site / "predict.html").read_text()


def test_every_option_in_a_shell_block_exists():
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                for call in re.split(r"&&|\|\||;|\|", line.split(" #")[0]):
                    if call.strip().startswith("ser "):
                        check_call(page.name, call.strip())


COMMANDS = cache(get_command)


def check_call(page, call):
    """Walk down to the command, then look up every option of the call."""
    command, words = COMMANDS(cli), re.sub(r"[\"'()]", " ", call).split()[1:]
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    if isinstance(command, RunsGroup):
        command = command.commands[LIST]
    if hasattr(command, "commands") and not command.invoke_without_command:
        raise AssertionError(f"{page}: `{call}` names no command")
    values = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    for word in words:
        option = word.partition("=")[0]
        assert not option.startswith("-") or option in values | {"--help", "-"}, f"{page}: `{call}`"


def test_an_unknown_option_or_command_is_found():
    for call in ("ser extract --shards 0/2", "ser heads trian-all"):
        with pytest.raises(AssertionError, match=r"a\.md"):
            check_call("a.md", call)


@pytest.mark.slow
def test_the_quick_start(tmp_path):
    page = (ROOT / "docs" / "index.md").read_text()
    snippets = dict(re.findall(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", page, re.S))
    assert set(snippets) == {"corpus", "features", "predict"}
    (tmp_path / "clips").mkdir()
    rows = []
    for i in range(32):
        soundfile.write(tmp_path / "clips" / f"{i}.wav", np.tile(tone(i, 0.5 + i / 100), 2), 16_000)
        emotion = ("angry", "sad", "happy", "neutral")[i % 4]
        split = ("train", "train", "dev", "test")[i // 4 % 4]
        rows.append((f"{i}.wav", emotion, f"{split}-{i % 2}", split))
    columns = ["file", "emotion", "speaker", "split"]
    pl.DataFrame(rows, columns, orient="row").write_csv(tmp_path / "labels.csv")
    done = bash(snippets["corpus"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "prosody: 32 extracted" in done.stdout
    (tmp_path / "recordings").mkdir()
    for name in ("0.wav", "1.wav"):
        shutil.copy(tmp_path / "clips" / name, tmp_path / "recordings")
    shutil.copy(tmp_path / "clips" / "0.wav", tmp_path / "clip.wav")
    predicted = bash(snippets["predict"], tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert pl.read_csv(tmp_path / "emotions.csv").height == 2
    text = (tmp_path / "mine.yaml").read_text()
    more = re.sub(r"^features:.*(?=^stack:)", snippets["features"], text, flags=re.S | re.M)
    (tmp_path / "more.yaml").write_text(more)
    assert list(Pipeline.load(tmp_path / "more.yaml").heads) == ["gru", "audio-text"]


@pytest.mark.slow
@pytest.mark.skipif(CHROME is None, reason="there is no Chrome or Chromium")
def test_it_opens_in_a_browser(site):
    sync = pytest.importorskip("playwright.sync_api")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROME, args=["--no-sandbox"])
        for name, width in (("index", 1280), ("presets", 390), ("reference/heads", 1280)):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.set_default_timeout(120_000)
            errors, requests = [], []
            page.on("console", lambda message, errors=errors: errors.append(message.text))
            page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            page.on("request", lambda request, requests=requests: requests.append(request.url))
            page.goto(f"{address}{name}.html", wait_until="networkidle")
            assert errors == []
            assert all(url.startswith((address, "data:", "blob:")) for url in requests)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("article h1").count() == 1
        page.keyboard.press("/")
        page.keyboard.type("conformance")
        page.get_by_text(re.compile(r"^\d+ results?$")).wait_for()
        browser.close()
    server.shutdown()
