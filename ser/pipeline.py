"""pipeline.yaml: one file that says everything; read, checked, and handed to the stages.

Paths are relative to the file. `${NAME}` takes the environment variable. `--set section.key=value`
overrides a value. Every mistake is one sentence with the line, the key and the nearest valid key.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cache.remote import is_url
from corpus.config import CorpusConfig
from corpus.errors import UserError
from extract.extractor import FeatureOptions, extractor_class, parse_options
from extract.models import kind_of
from extract.run import TRANSCRIPT
from heads.config import HeadConfig, parse_head, valid_keys
from score.config import ScoreConfig
from stack.config import StackConfig

SECTIONS = ("corpus", "cache", "run", "features", "heads", "stack", "score", "plugins")
Model = TypeVar("Model", bound=BaseModel)
Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Pipeline:
    """Hold a checked pipeline; all paths are absolute."""

    source: str
    raw: Mapping[str, Any]  # as written, overrides and environment included
    corpus: CorpusConfig
    cache: Path | str  # a folder, or a URL
    run: Path
    features: Mapping[str, FeatureOptions]
    heads: Mapping[str, HeadConfig]
    stack: StackConfig
    score: ScoreConfig

    @classmethod
    def load(
        cls, path: str | Path, overrides: Sequence[str] = (), base: Path | None = None
    ) -> "Pipeline":
        """Read and check a file; `base` replaces the file's folder for relative paths.

        Raises `UserError` at the first mistake.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(
                f"{path}: there is no such file; give one with `--pipeline`, or start from "
                "presets/ravdess-tiny.yaml."
            )
        document = _Document(str(path), path.read_text(encoding="utf-8"))
        for override in overrides:
            document.override(override)
        return _check(document, (base or path.parent).resolve())


class _Document:
    """A YAML file with the line of every key."""

    def __init__(self, source: str, text: str) -> None:
        self.source = source
        self.lines: dict[Where, int] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self._walk(node, ())
            self.data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or str(error)
            raise UserError(
                f"{source}{line}: not valid YAML ({problem}); mend the line, or quote the value."
            ) from error
        if not isinstance(self.data, dict):
            raise UserError(f"{source}: it holds no sections; it needs at least `corpus:`.")
        self.data = self._expand(self.data, ())

    def _walk(self, node: yaml.Node | None, where: Where) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*where, key.value)
                if here in self.lines:
                    line = key.start_mark.line + 1
                    raise UserError(
                        f"{self.source}:{line}: '{dotted(here)}' stands twice; keep one of them."
                    )
                self.lines[here] = key.start_mark.line + 1
                self._walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self.lines[*where, i] = value.start_mark.line + 1
                self._walk(value, (*where, i))

    def _expand(self, value: Any, where: Where) -> Any:
        if isinstance(value, dict):
            return {k: self._expand(v, (*where, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self._expand(v, (*where, i)) for i, v in enumerate(value)]
        if not isinstance(value, str):
            return value

        def lookup(match: re.Match[str]) -> str:
            if match[1] not in os.environ:
                raise self.error(where, f"${{{match[1]}}} is not set; export {match[1]}=…")
            return os.environ[match[1]]

        return re.sub(r"\$\{(\w+)\}", lookup, value)

    def override(self, text: str) -> None:
        """Apply one `section.key=value`; the value is read as YAML."""
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"--set {text}: it is not of the form section.key=value.")
        *parents, last = key.split(".")
        place = self.data
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"--set {text}: '{parent}' is a value and has no keys below it.")
        place[last] = yaml.safe_load(value)

    def error(self, where: Where, problem: str) -> UserError:
        """Return an error that names the line and the key."""
        known = [where[:n] for n in range(len(where), 0, -1) if where[:n] in self.lines]
        line = f":{self.lines[known[0]]}" if known else ""
        return UserError(f"{self.source}{line}: {dotted(where)}: {problem}")

    def unknown(self, where: Where, valid: Iterable[str]) -> UserError:
        """Return an error for a key that is not one of the valid ones."""
        valid = list(valid)
        near = get_close_matches(str(where[-1]), valid, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"valid are {', '.join(valid)}."
        return self.error(where, f"unknown key; {hint}")

    def validate(self, where: Where, valid: Iterable[str], make: Callable[[], Model]) -> Model:
        """Call `make`, turning what pydantic finds into one sentence."""
        try:
            return make()
        except UserError as error:
            raise self.error(where, str(error)) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = (*where, *(p for p in first["loc"] if p != "architecture"))
            if first["type"] == "extra_forbidden":
                nested = len(first["loc"]) > 1
                raise self.unknown(place, () if nested else valid) from error
            if first["type"] == "missing":
                raise self.error(place, "it is missing; give it a value.") from error
            message = first["msg"].removeprefix("Value error, ")
            raise self.error(place, f"{message}; correct the value.") from error


def _check(document: _Document, base: Path) -> Pipeline:
    data = document.data
    for key in data:
        if key not in SECTIONS:
            raise document.unknown((key,), SECTIONS)
    for name in data.get("plugins") or ():
        import_plugin(str(name), base)
    for key in ("corpus", "cache", "run"):
        if key not in data:
            raise document.error((key,), "the section is missing; add it.")
    features = _features(document, base)
    heads = _heads(document)
    _check_names(document, features, heads)
    return Pipeline(
        source=document.source,
        raw=data,
        corpus=_corpus(document, base),
        cache=_place(str(data["cache"]), base),
        run=base / str(data["run"]),
        features=features,
        heads=heads,
        stack=_section(document, "stack", StackConfig),
        score=_section(document, "score", ScoreConfig),
    )


def _place(said: str, base: Path) -> Path | str:
    return said if is_url(said) else (base / said).resolve()


def import_plugin(name: str, folder: Path) -> None:
    """Import a user's module, also from `folder`; it registers what it defines."""
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    try:
        import_module(name)
    except ImportError as error:
        raise UserError(
            f"plugin '{name}' cannot be imported ({error}); put {name}.py into {folder.resolve()} "
            "or install it."
        ) from error


def _names(document: _Document, section: str) -> list[str]:
    """Return the names in a section; they become folder names, so they are plain."""
    names = [str(name) for name in _mapping(document, (section,)) if name != "defaults"]
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name) or name == "stack":
            raise document.error(
                (section, name), "use letters, digits, '-', '_' and '.' only, and not 'stack'."
            )
    return names


def _section(document: _Document, key: str, model: type[Model]) -> Model:
    said = _mapping(document, (key,))
    return document.validate((key,), model.model_fields, lambda: model.model_validate(said))


def _mapping(document: _Document, where: Where) -> dict[str, Any]:
    value: Any = document.data
    for key in where:
        value = value.get(key) if isinstance(value, dict) else None
    if value is not None and not isinstance(value, dict):
        raise document.error(where, "it must be a mapping (`key: value` lines).")
    return dict(value or {})


def _corpus(document: _Document, base: Path) -> CorpusConfig:
    said = _section(document, "corpus", CorpusConfig)
    audio = base / said.audio if said.audio else None
    return said.model_copy(update={"manifest": base / said.manifest, "audio": audio})


def _features(document: _Document, base: Path) -> dict[str, FeatureOptions]:
    features = {}
    for name in _names(document, "features"):
        where = ("features", name)
        said = _mapping(document, where)
        if "model" in said and (base / str(said["model"])).is_dir():
            said["model"] = str(base / str(said["model"]))
        valid = _feature_keys(said)
        features[name] = document.validate(where, valid, partial(parse_options, said))
    return features


def _feature_keys(said: Mapping[str, Any]) -> list[str]:
    try:
        kind = str(said.get("kind") or kind_of(str(said.get("model"))))
        return list(extractor_class(kind).Options.model_fields)
    except UserError:  # parse_options will say it, with the line
        return ["kind", "model"]


def _heads(document: _Document) -> dict[str, HeadConfig]:
    defaults = _mapping(document, ("heads", "defaults"))
    heads = {}
    for name in _names(document, "heads"):
        where = ("heads", name)
        entry = defaults | _mapping(document, where)
        for key in entry:
            if key not in _valid(document, where, entry):
                at = where if key in _mapping(document, where) else ("heads", "defaults")
                raise document.unknown((*at, key), _valid(document, where, entry))
        heads[name] = document.validate(where, (), partial(parse_head, entry))
    return heads


def _valid(document: _Document, where: Where, entry: Mapping[str, Any]) -> list[str]:
    try:
        return valid_keys(entry)
    except UserError as error:
        raise document.error(where, str(error)) from error


def _check_names(
    document: _Document, features: Mapping[str, FeatureOptions], heads: Mapping[str, HeadConfig]
) -> None:
    frames = [f for f, o in features.items() if extractor_class(o.kind).gives == "frames"]
    words = [f for f in features if f not in frames]
    for name, options in features.items():
        kind = extractor_class(options.kind)
        if options.augment and ((kind.reads, kind.gives) != ("audio", "frames")):
            raise document.error(
                ("features", name, "augment"),
                f"kind {options.kind} has no views; put it under a feature that reads audio.",
            )
        of = getattr(options, "of", TRANSCRIPT)
        if of != TRANSCRIPT and of not in words:
            raise document.error(
                ("features", name, "of"),
                f"'{of}' is no feature of kind asr; {_nearest(of, [*words, TRANSCRIPT])}",
            )
    for name, config in heads.items():
        for feature in config.feature_names:
            if feature not in frames:
                raise document.error(
                    ("heads", name, "features"),
                    f"'{feature}' is not extracted by anything under features; "
                    f"{_nearest(feature, frames)}",
                )
        _check_views(document, features, name, config)
    for name in _mapping(document, ("stack",)).get("heads") or ():
        if name not in heads:
            raise document.error(
                ("stack", "heads"), f"there is no head '{name}'; {_nearest(name, list(heads))}"
            )


def _check_views(
    document: _Document, features: Mapping[str, FeatureOptions], name: str, config: HeadConfig
) -> None:
    """Require every view of a head to be made of every audio feature that it reads."""
    for feature in config.feature_names:
        options = features[feature]
        for view in config.views:
            if extractor_class(options.kind).reads == "audio" and view not in options.augment:
                raise document.error(
                    ("heads", name, "views"),
                    f"'{view}' is not under features.{feature}.augment; "
                    f"{_nearest(view, list(options.augment))}",
                )


def _nearest(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known) or 'none'}."


def dotted(where: Where) -> str:
    """Return a place in the file as section.key[0]."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
