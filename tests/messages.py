"""Every sentence of the installed package that a user can meet, a line each: `messages.txt`.

`python -m tests.messages --write` (`make messages`) writes that file again, so that a change of
wording is one line of a diff. Collected from the source: strings of two words or more; docstrings
only where they are a command's help, a line for each paragraph and option. A value within an
f-string is `{…}`. There are no line numbers, so moving code within a file changes nothing.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SNAPSHOT = ROOT / "tests" / "messages.txt"
HOLE = "{…}"
WORD = r"[^\W\d_]{2,}"
PROSE = re.compile(rf"{WORD}[,;:.)'’]*\s+[('‘]*{WORD}|{WORD}[,;:]? \{{…\}}|\{{…\}} {WORD}")
NOT_PROSE = re.compile(
    r"^\s*<|</\w+>|\{[^{}]+:[^{}]*(?:rem|px)[^{}]*\}|\w\[\w+, "
)  # HTML, CSS, scripts, types
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Return the modules of the installed package; its links lead to the folders beside it."""
    folders = os.walk(ROOT / "ser", followlinks=True)
    return sorted(
        (Path(folder) / name).resolve()
        for folder, _, names in folders
        for name in names
        if name.endswith(".py")
    )


def sentences(tree: ast.Module, commands: bool) -> Iterator[str]:
    """Yield the strings of a module that are sentences; with `commands` also its help texts."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):  # a node is walked after what it is part of
        if node in skipped:
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
        if commands and isinstance(node, Function) and not node.name.startswith("_"):
            yield from re.split(r"\n\n|\n {4}(?=\w)", ast.get_docstring(node) or "")
        if isinstance(node, ast.JoinedStr):
            skipped |= {part for part in node.values if isinstance(part, ast.Constant)}
            yield "".join(
                part.value if isinstance(part, ast.Constant) else HOLE for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@cache
def collect() -> list[str]:
    """Return the lines of the snapshot: `file: sentence`, sorted."""
    lines = set()
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for text in sentences(tree, commands=name.startswith("ser/commands/")):
            sentence = " ".join(text.split())
            if PROSE.search(sentence) and not NOT_PROSE.search(text):
                lines.add(f"{name}: {sentence}")
    return sorted(lines)


def main() -> None:
    text = "".join(f"{line}\n" for line in collect())
    if "--write" in sys.argv[1:]:
        SNAPSHOT.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
