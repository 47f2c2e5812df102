"""Importers by name: a function `(folder, **options) -> Manifest` under a decorator.

    @importer("mine")
    def mine(folder: Path, *, split: str = "default") -> Manifest: ...

    manifest = import_corpus("mine", "/data/mine", split="random")

Every path in the manifest is relative to `folder`. Your own importer is available as soon as its
module is imported; a built-in one is imported when it is used (`ser.corpus.registry`).
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ser.corpus.cells import counted
from ser.corpus.classes import map_emotions, require_occurring
from ser.corpus.columns import ATTRIBUTES, VOTE
from ser.corpus.errors import UserError, nearest
from ser.corpus.importers.options import class_mapping, typed_options
from ser.corpus.manifest import Manifest
from ser.corpus.registry import BuiltIn, Registry, origin, require_call

Importer = Callable[..., Manifest]

EMOTIONS = "emotions"  # an option that every importer has
AS_PUBLISHED = (".wav", ".flac")  # preferred where a clip exists in several formats
GENDERS = {"F": "female", "M": "male"}  # by the letter that file names have

SPECS = Path(__file__).with_name("specs")  # a YAML for each corpus that is labelled by file name
_MODULES = {  # of the importers that have one of their own
    "csv": "table",
    "crema-d": "crema_d",
    "msp-improv": "msp_improv",
    "msp-podcast": "msp_podcast",
    **{name: name for name in ("audformat", "emobox", "files", "hf", "iemocap", "meld")},
}


def _built_in() -> dict[str, BuiltIn[None]]:
    """Return the importers of this package; a line of each file is its summary."""
    parts: dict[str, tuple[str, str]] = {}
    for name, module in _MODULES.items():
        text = Path(__file__).with_name(f"{module}.py").read_text("utf-8")
        parts[name] = module, text.split('"""')[1].partition("\n")[0]
    for path in SPECS.glob("*.yaml"):
        (summary,) = re.findall(r'^summary: "(.+)"$', path.read_text("utf-8"), re.MULTILINE)
        parts[path.stem] = "files", summary
    return {
        name: BuiltIn(f"ser.corpus.importers.{module}", summary, None)
        for name, (module, summary) in sorted(parts.items())
    }


_COLUMNS: dict[str, tuple[str, ...]] = {}  # by importer: the options that name columns
IMPORTERS = Registry[Importer, None]("importer", "corpus import", _built_in())


def importer(name: str, columns: Sequence[str] = ()) -> Callable[[Importer], Importer]:
    """Register a function as the importer of a corpus.

    Args:
        name: what `ser corpus import` calls it.
        columns: options that each name a column, which the function takes as `**columns`.

        >>> import ser
        >>> @importer("two-clips")
        ... def two_clips(folder):
        ...     rows = {"utterance": ["0", "1"], "path": ["0.wav", "1.wav"]}
        ...     return ser.Manifest(pl.DataFrame(rows))
        >>> len(ser.import_corpus("two-clips", "clips"))
        2
    """

    def register(function: Importer) -> Importer:
        require_call("importer", name, function, "(folder, **options)", 1)
        IMPORTERS.add(name, function, None)
        _COLUMNS[name] = tuple(columns)
        return function

    return register


def describe(name: str) -> str:
    """Return an importer's docstring: the corpus, its files and the importer's options."""
    return inspect.getdoc(IMPORTERS.get(name)) or ""


def option_names(name: str) -> list[str]:
    """List the options of an importer's own."""
    _, *parameters = inspect.signature(IMPORTERS.get(name)).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD] + [*_COLUMNS.get(name, ())]


def options_of_text(name: str, texts: Mapping[str, str]) -> dict[str, object]:
    """Convert the options of an importer from the text of the command line."""
    function = IMPORTERS.get(name)
    typed = typed_options(function, texts)
    if EMOTIONS in texts and EMOTIONS not in inspect.signature(function).parameters:
        typed |= typed_options(_with_emotions, {EMOTIONS: texts[EMOTIONS]})
    return typed


def import_corpus(name: str, folder: str | Path, /, **options: Any) -> Manifest:
    """Read a corpus from its folder.

    Args:
        name: the importer, as `ser corpus import --help` lists them.
        folder: the folder of the corpus.
        **options: those of the importer; every one has `emotions`, a mapping of its emotions to
            classes, in which those left out have no class.

    Raises `UserError` for an unknown name or option (with the nearest known one), a missing folder,
    and whatever the importer finds wrong with the corpus.

        >>> import_corpus("csv", "clips", table="mine.csv").classes
        ('angry', 'sad')
    """
    function, own = IMPORTERS.get(name), option_names(name)
    names = own if EMOTIONS in own else [*own, EMOTIONS]
    emotions = None if EMOTIONS in own else options.pop(EMOTIONS, None)
    for option in options:
        if option not in names:
            raise UserError(
                f"corpus '{name}': there is no option '{option}'; {nearest(option, names)}"
            )
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give the folder of {name}.")
    manifest = function(folder, **options)
    if not isinstance(manifest, Manifest):
        raise UserError(
            f"the importer '{name}' ({origin(function)}) returned a "
            f"{type(manifest).__name__}, not a Manifest; return "
            "ser.corpus.manifest.Manifest(frame, source=folder)."
        )
    return manifest if emotions is None else _with_emotions(manifest, emotions=emotions)


def _with_emotions(manifest: Manifest, *, emotions: Mapping[str, str]) -> Manifest:
    """Return the manifest with the classes of a mapping; other emotions become no class."""
    mapping = class_mapping(EMOTIONS, emotions)
    require_occurring(mapping, manifest)
    named = {emotion: name for emotion, name in mapping.items() if name is not None}
    frame = manifest.frame.with_columns(
        emotion=pl.when(pl.col("emotion").is_in(list(named))).then("emotion")
    )
    left = manifest.frame.filter(~pl.col("emotion").is_in(list(mapping)))["emotion"]
    notes = [f"without a class, as emotions does not name it: {counted(left)}"] if len(left) else []
    kept = Manifest(frame, None, manifest.source, manifest.audio, (*manifest.notes, *notes))
    return map_emotions(kept, named, list(dict.fromkeys(named.values())))


def one_of(option: str, value: object, choices: Sequence[str]) -> str:
    """Return an option's value as text, or raise `UserError` when it is none of `choices`."""
    if str(value) not in choices:
        raise UserError(f"option {option} is '{value}'; {nearest(str(value), choices)}")
    return str(value)


def find_clips(folder: Path, name: re.Pattern[str], example: str) -> dict[str, re.Match[str]]:
    """Find the audio files under `folder` whose stem matches: path relative to it -> match.

    Sorted by stem. A stem found twice counts once (archives of corpora hold second copies).
    Raises `UserError`, naming an `example` file, when there is none.
    """
    clips: dict[str, tuple[str, re.Match[str]]] = {}
    for path in audio_files(folder):
        match = name.fullmatch(path.stem)
        if match and path.stem not in clips:
            clips[path.stem] = (path.relative_to(folder).as_posix(), match)
    if not clips:
        raise UserError(
            f"{folder}: no audio file in this folder is named like {example}; give the folder of "
            "the unpacked corpus."
        )
    return dict(clips[stem] for stem in sorted(clips))


def audio_files(folder: Path) -> list[Path]:
    """List the audio files under `folder`, those in a format as published before all others."""
    from ser.corpus.decoding.suffixes import SUFFIXES

    files = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    return sorted(files, key=lambda path: (path.suffix.lower() not in AS_PUBLISHED, path))


def build(
    rows: pl.DataFrame | Iterable[Mapping[str, object]],
    classes: Sequence[str],
    folder: Path,
    notes: Sequence[str] = (),
    **constants: str,
) -> Manifest:
    """Build a manifest from its rows; its classes are those of `classes` that occur, in order.

    `constants` are columns with one value in all rows, as in `corpus="emodb", language="de"`.
    """
    if not isinstance(rows, pl.DataFrame):
        rows = pl.DataFrame(list(rows), infer_schema_length=None)
    present = set(rows["emotion"].drop_nulls())
    frame = rows.with_columns(pl.lit(value).alias(name) for name, value in constants.items())
    return Manifest(frame, [name for name in classes if name in present], folder, notes=notes)


def rated(
    votes: Mapping[str, int], classes: Iterable[str], attributes: Sequence[float]
) -> dict[str, object]:
    """Return the columns of the ratings of an utterance.

    Args:
        votes: how many chose each class, or "other".
        classes: those that they could choose.
        attributes: arousal, valence and dominance from 1 to 5, which become 1 to 7; NaN is null.
    """
    scaled = {
        name: None if math.isnan(value) else min(max(1.5 * value - 0.5, 1.0), 7.0)
        for name, value in zip(ATTRIBUTES, attributes, strict=True)
    }
    return {**scaled, **{VOTE + name: votes.get(name, 0) for name in (*classes, "other")}}
