"""Build the documentation site: `python docs/build.py [FOLDER]`, by default into `site/`.

Zensical builds it from pages that this script prepares. Pages of docs/ link to files outside it,
such as `../presets/nu.yaml`, which works on the disk and in a repository's browser; on the site
the link leads to a page that shows the file. The changelog becomes a page, and comments in the
Markdown, which hide what only the tests need, are left out.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)]*)?\)")
LANGUAGES = {".py": "python", ".yaml": "yaml"}


def build(site: Path) -> int:
    """Write the site into a folder and return the exit code; a broken link is an error."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        prepare(work / "docs")
        config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
        config |= {"docs_dir": "docs", "site_dir": "site"}
        (mkdocstrings,) = (p["mkdocstrings"] for p in config["plugins"] if "mkdocstrings" in p)
        python = mkdocstrings["handlers"]["python"]
        python["paths"] = [str(ROOT)]
        python["options"]["extensions"] = [str(ROOT / "docs" / "doctests.py")]
        (work / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        done = subprocess.run(command, cwd=work, check=False)
        if done.returncode == 0:
            shutil.rmtree(site, ignore_errors=True)
            shutil.copytree(work / "site", site)
        return done.returncode


def prepare(pages: Path) -> None:
    """Write the pages of the site, with the changelog and the files that pages link to."""
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    linked: set[str] = set()
    for page in pages.rglob("*.md"):
        text = re.sub(r"<!--.*?-->\n?", "", page.read_text(encoding="utf-8"), flags=re.S)
        if page.parent == pages:  # deeper down, ../ is docs/
            for link in LINK.finditer(text):
                if not (ROOT / link[1]).is_file():
                    sys.exit(f"docs/{page.name}: ../{link[1]} does not exist; correct the link.")
                linked.add(link[1])
            text = LINK.sub(r"](source/\1.md)", text)
        page.write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "CHANGELOG.md", pages / "changelog.md")
    for name in linked:
        page = pages / "source" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(_shown(name), encoding="utf-8")


def _shown(name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        cells = [(c["cell_type"], "".join(c["source"])) for c in json.loads(text)["cells"]]
        return "\n\n".join(s if kind == "markdown" else _code("python", s) for kind, s in cells)
    return f"# {name}\n\n{_code(LANGUAGES.get(Path(name).suffix, 'text'), text)}"


def _code(language: str, text: str) -> str:
    fence = "`" * 4
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site").resolve()))
