"""Importers by name: a function `(folder, **options) -> Manifest` under a decorator.

    @importer("mine")
    def mine(folder: Path, *, split: str = "default") -> Manifest: ...

    manifest = import_corpus("mine", "/data/mine", split="random")

Every path in the manifest is relative to `folder`. An importer of your own counts as soon as its
module is imported; the built-in ones are imported on the first call.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import polars as pl

from corpus.errors import UserError
from corpus.manifest import Manifest

Importer = Callable[..., Manifest]

BUILT_IN = ("crema_d", "emodb", "iemocap", "msp_podcast", "ravdess", "table")
AUDIO = (".wav", ".flac")

_importers: dict[str, Importer] = {}


def importer(name: str) -> Callable[[Importer], Importer]:
    """Register the decorated function as the importer of the corpus `name`."""

    def register(function: Importer) -> Importer:
        _importers[name] = function
        return function

    return register


def names() -> list[str]:
    """List the names that `import_corpus` knows, sorted."""
    for module in BUILT_IN:
        importlib.import_module(f"corpus.importers.{module}")
    return sorted(_importers)


def describe(name: str) -> str:
    """Return what an importer's docstring says of the corpus, its files and its options."""
    return inspect.getdoc(_find(name)) or ""


def import_corpus(name: str, folder: str | Path, **options: Any) -> Manifest:
    """Read the corpus `name` that lies in `folder`.

    Raises `UserError` for an unknown name or option (with the nearest known one), a folder that is
    not there, and whatever the importer finds wrong with the corpus.
    """
    function = _find(name)
    known = [p.name for p in inspect.signature(function).parameters.values()][1:]
    for option in options:
        if option not in known:
            raise UserError(
                f"corpus '{name}': there is no option '{option}'{_nearest(option, known)}; "
                f"its options are: {', '.join(known) or 'none'}."
            )
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give the one '{name}' lies in.")
    return function(folder, **options)


def one_of(option: str, value: Any, choices: Sequence[str]) -> str:
    """Return an option's value as text, or raise `UserError` when it is none of `choices`."""
    if str(value) not in choices:
        raise UserError(
            f"option {option} is '{value}'{_nearest(str(value), choices)}; "
            f"use one of: {', '.join(choices)}."
        )
    return str(value)


def find_clips(folder: Path, name: re.Pattern[str], example: str) -> dict[str, re.Match[str]]:
    """Find the audio files under `folder` whose stem matches: path relative to it -> match.

    Sorted by stem. A stem found twice counts once (archives of corpora hold second copies).
    Raises `UserError`, naming an `example` file, when there is none.
    """
    files = (path for path in folder.rglob("*") if path.suffix.lower() in AUDIO)
    clips: dict[str, tuple[str, re.Match[str]]] = {}
    for path in sorted(files):
        match = name.fullmatch(path.stem)
        if match and path.stem not in clips:
            clips[path.stem] = (path.relative_to(folder).as_posix(), match)
    if not clips:
        raise UserError(
            f"{folder}: there is no audio named like {example} in it; give the folder of the "
            "unpacked corpus."
        )
    return dict(clips[stem] for stem in sorted(clips))


def build(rows: Iterable[dict[str, Any]], classes: Sequence[str], folder: Path) -> Manifest:
    """Make a manifest of row dicts, its classes being those of `classes` that occur, in order."""
    frame = pl.DataFrame(list(rows), infer_schema_length=None)
    return manifest_of(frame, classes, folder)


def manifest_of(frame: pl.DataFrame, classes: Sequence[str], folder: Path) -> Manifest:
    """Make a manifest of a frame, its classes being those of `classes` that occur, in order."""
    present = set(frame["emotion"].drop_nulls())
    return Manifest(frame, [name for name in classes if name in present], folder)


def _find(name: str) -> Importer:
    known = names()
    if name not in known:
        raise UserError(
            f"corpus '{name}' is unknown{_nearest(name, known)}; "
            f"there are importers for: {', '.join(known)}."
        )
    return _importers[name]


def _nearest(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
