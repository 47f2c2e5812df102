"""What MkDocs does besides: files outside docs/ that pages link to become pages of the site.

A link such as `../presets/nu.yaml` works on the disk and in a repository's browser; here it leads
to a page that shows the file, made when the site is built. Comments in the Markdown, which hide
what the tests need, are left out.
"""

import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)]*)?\)")
LANGUAGES = {".py": "python", ".yaml": "yaml"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the changelog, and a page for every file outside docs/ that a page links to."""
    root = Path(config.docs_dir).parent
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=changelog))
    wanted = sorted({target for file in files.documentation_pages() for target in _targets(file)})
    for target in wanted:
        path = root / target
        if path.is_file():  # of one that is not there the broken link is told
            shown = _shown(target, path.read_text(encoding="utf-8"))
            files.append(File.generated(config, _page_of(target), content=shown))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the pages made above; leave out comments."""
    markdown = re.sub(r"<!--.*?-->\n?", "", markdown, flags=re.S)
    if "/" in page.file.src_uri:  # there, ../ is docs/
        return markdown
    return LINK.sub(lambda link: f"]({_page_of(link[1])})", markdown)


def _targets(file: File) -> list[str]:
    nested = "/" in file.src_uri
    return [] if nested else [target for target, _ in LINK.findall(file.content_string)]


def _page_of(target: str) -> str:
    return f"source/{target}.md"


def _shown(target: str, text: str) -> str:
    if target.endswith(".ipynb"):
        cells = [(c["cell_type"], "".join(c["source"])) for c in json.loads(text)["cells"]]
        return "\n\n".join(s if kind == "markdown" else _code("python", s) for kind, s in cells)
    return f"# {target}\n\n{_code(LANGUAGES.get(Path(target).suffix, 'text'), text)}"


def _code(language: str, text: str) -> str:
    fence = "`" * 4
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"
