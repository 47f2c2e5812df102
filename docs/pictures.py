"""Take the pictures of docs/images: the report and the page of a run.

python docs/pictures.py runs/demo        after `ser demo`; needs Chromium or Chrome
"""

import contextlib
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).with_name("images")
COMMAND = [sys.executable, "-c", "from ser.commands.main import main; main()"]
LARGEST = 150_000  # bytes of a picture


def take(run: Path) -> None:
    """Write report.png and page.png."""
    from playwright.sync_api import sync_playwright

    IMAGES.mkdir(exist_ok=True)
    report = ["report", "--figures", "none", "--pipeline", str(run / "pipeline.yaml")]
    subprocess.run([*COMMAND, *report], check=True)
    with sync_playwright() as playwright, served(run) as address:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": 1140, "height": 1980}, device_scale_factor=0.75, color_scheme="light"
        )
        page.goto((run / "report" / "report.html").resolve().as_uri())
        page.wait_for_selector("#figure-confusion .main-svg")
        page.wait_for_timeout(1000)
        save(page.screenshot(), IMAGES / "report.png")
        page.set_viewport_size({"width": 1180, "height": 1640})
        page.goto(address)
        page.click("#example")
        page.wait_for_selector("#details .ser-down")
        page.mouse.move(0, 0)
        page.wait_for_timeout(2000)
        save(page.screenshot(), IMAGES / "page.png")
        browser.close()


@contextlib.contextmanager
def served(run: Path) -> Iterator[str]:
    """Run `ser serve` on a free port; yield its address."""
    command = [*COMMAND, "serve", "--run", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line.split("listening on ")[1].split(";")[0]
    finally:
        process.terminate()
        process.wait(30)


def save(picture: bytes, path: Path) -> None:
    """Write a picture with as many colours as its size allows."""
    from PIL import Image

    image: Any = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (256, 128, 64, 32):
        image.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            break


if __name__ == "__main__":
    take(Path(sys.argv[1]))
