"""pipeline.yaml: one file that says everything; read, checked, and handed to the stages.

Paths are relative to the file; the copy in a run's folder has absolute ones. `${NAME}` takes the
environment variable. `--set section.key=value` overrides a value. Every mistake is one sentence
with the line, the key and the nearest valid key.
"""

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from cache.files import write_durably
from cache.remote import is_url
from corpus.config import CorpusConfig
from corpus.errors import UserError, nearest
from corpus.manifest import Manifest
from extract.extractor import FeatureOptions, extractor_class, parse_options
from extract.models import kind_of
from extract.run import TRANSCRIPT
from heads.config import HeadConfig, parse_head, valid_keys
from score.config import ScoreConfig
from ser.document import Document, Model, Where
from ser.finetune.config import FineTuneConfig
from ser.finetune.section import check_finetune, read_finetune
from stack.config import StackConfig

SECTIONS = (
    "corpus",
    "cache",
    "run",
    "finetune",
    "features",
    "heads",
    "stack",
    "score",
    "plugins",
)


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
    finetune: Mapping[str, FineTuneConfig] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()  # each its folder and its module's name, as one path

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
        document = Document(str(path), path.read_text(encoding="utf-8"))
        for override in overrides:
            document.override(override)
        return _check(document, (base or path.parent).resolve())

    @property
    def systems(self) -> list[str]:
        """Return the names of all that has logits: heads, then fine-tuned models."""
        return [*self.heads, *self.finetune]

    @property
    def finetuned(self) -> dict[str, FeatureOptions]:
        """Return the features that fine-tuned models are, by name, as their own heads read them."""
        return {
            name: parse_options(config.as_feature(str(self.run / "finetuned" / name)))
            for name, config in self.finetune.items()
        }

    def resolved(self) -> dict[str, Any]:
        """Return what the file says with every path absolute: a file that may lie anywhere."""
        raw: dict[str, Any] = copy.deepcopy(dict(self.raw))
        raw["corpus"]["manifest"] = str(self.corpus.manifest.resolve())
        if self.corpus.audio is not None:
            raw["corpus"]["audio"] = str(self.corpus.audio.resolve())
        raw |= {"cache": str(self.cache), "run": str(self.run.resolve())}
        for name, options in self.features.items():
            if hasattr(options, "model"):
                raw["features"][name]["model"] = options.model
        for name, entry in self.finetune.items():
            raw["finetune"][name]["model"] = entry.model
        for name, config in self.heads.items():
            if config.init is not None:
                raw["heads"][name]["init"] = str(config.init)
        if self.plugins:
            raw["plugins"] = list(self.plugins)
        return raw


def read_manifest(pipeline: Pipeline) -> Manifest:
    """Read the pipeline's manifest with the pipeline's classes."""
    return Manifest.read(pipeline.corpus.manifest, pipeline.corpus.classes)


def write_resolved(pipeline: Pipeline) -> None:
    """Write the pipeline as it was understood into its run folder, every path absolute.

    So it can be read from anywhere, and a run needs no other file to be asked about own audio.
    """
    pipeline.run.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(pipeline.resolved(), sort_keys=False, allow_unicode=True)
    write_durably(pipeline.run / "pipeline.yaml", f"# resolved from {pipeline.source}\n{text}")


def _check(document: Document, base: Path) -> Pipeline:
    data = document.data
    for key in data:
        if key not in SECTIONS:
            raise document.unknown((key,), SECTIONS)
    plugins = tuple(str(base / str(name)) for name in data.get("plugins") or ())
    for plugin in plugins:
        import_plugin(Path(plugin).name, Path(plugin).parent)
    for key in ("corpus", "cache", "run"):
        if key not in data:
            raise document.error((key,), "the section is missing; add it.")
    corpus = _corpus(document, base)
    finetune = read_finetune(document, base)
    made = {(base / str(data["run"]) / "finetuned" / n).resolve(): c for n, c in finetune.items()}
    features = _features(document, base, made, corpus.classes)
    heads = _heads(document, base)
    _check_names(document, features, heads, corpus.classes)
    check_finetune(document, finetune, features, heads)
    return Pipeline(
        source=document.source,
        raw=data,
        corpus=corpus,
        cache=_place(str(data["cache"]), base),
        run=base / str(data["run"]),
        features=features,
        heads=heads,
        stack=_section(document, "stack", StackConfig),
        score=_section(document, "score", ScoreConfig),
        finetune=finetune,
        plugins=plugins,
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


def _section(document: Document, key: str, model: type[Model]) -> Model:
    said = document.mapping((key,))
    return document.validate((key,), model, lambda: model.model_validate(said))


def _corpus(document: Document, base: Path) -> CorpusConfig:
    said = _section(document, "corpus", CorpusConfig)
    audio = base / said.audio if said.audio else None
    return said.model_copy(update={"manifest": base / said.manifest, "audio": audio})


def _features(
    document: Document,
    base: Path,
    made: Mapping[Path, FineTuneConfig],
    classes: Sequence[str],
) -> dict[str, FeatureOptions]:
    """Read the features; `made` are the folders of models that are yet to be fine-tuned.

    Options that have `classes` get the corpus's unless the file says others.
    """
    features = {}
    for name in document.names("features"):
        where = ("features", name)
        said = document.mapping(where)
        folder = (base / str(said.get("model"))).resolve()
        if "model" in said and folder in made:
            own = made[folder].as_feature(str(folder))
            said = (
                {k: v for k, v in own.items() if k != "precision"} | said | {"model": str(folder)}
            )
        elif "model" in said and (base / str(said["model"])).is_dir():
            said["model"] = str(base / str(said["model"]))
        options = _feature_options(said)
        if "classes" in options.model_fields:
            said = {"classes": classes} | said
        features[name] = document.validate(where, options, partial(parse_options, said))
    return features


def _feature_options(said: Mapping[str, Any]) -> type[FeatureOptions]:
    try:
        kind = str(said.get("kind") or kind_of(str(said.get("model"))))
        return extractor_class(kind).Options
    except UserError:  # parse_options will say it, with the line
        return FeatureOptions


def _heads(document: Document, base: Path) -> dict[str, HeadConfig]:
    defaults = document.mapping(("heads", "defaults"))
    heads = {}
    for name in document.names("heads"):
        where = ("heads", name)
        entry = defaults | document.mapping(where)
        for key in entry:
            if key not in _valid(document, where, entry):
                at = where if key in document.mapping(where) else ("heads", "defaults")
                raise document.unknown((*at, key), _valid(document, where, entry))
        if isinstance(entry.get("init"), str):
            entry["init"] = str(base / entry["init"])
        heads[name] = document.validate(where, HeadConfig, partial(parse_head, entry))
    return heads


def _valid(document: Document, where: Where, entry: Mapping[str, Any]) -> list[str]:
    try:
        return valid_keys(entry)
    except UserError as error:
        raise document.error(where, str(error)) from error


def _check_names(
    document: Document,
    features: Mapping[str, FeatureOptions],
    heads: Mapping[str, HeadConfig],
    classes: Sequence[str],
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
                f"'{of}' is no feature of kind asr; {nearest(of, [*words, TRANSCRIPT])}",
            )
    for name, config in heads.items():
        for feature in config.feature_names:
            scored = getattr(features.get(feature), "classes", classes)
            if config.head == "class_scores" and scored != classes:
                raise document.error(
                    ("features", feature, "classes"),
                    f"they are not the corpus's in their order, which head '{name}' takes them "
                    "for; leave `classes` out.",
                )
            if feature not in frames:
                raise document.error(
                    ("heads", name, "features"),
                    f"'{feature}' is not extracted by anything under features; "
                    f"{nearest(feature, frames)}",
                )
        _check_views(document, features, name, config)
    systems = [*heads, *document.names("finetune")]
    for name in document.mapping(("stack",)).get("heads") or ():
        if name not in systems:
            raise document.error(
                ("stack", "heads"), f"there is no head '{name}'; {nearest(name, systems)}"
            )


def _check_views(
    document: Document, features: Mapping[str, FeatureOptions], name: str, config: HeadConfig
) -> None:
    """Require every view of a head to be made of every audio feature that it reads."""
    for feature in config.feature_names:
        options = features[feature]
        for view in config.views:
            if extractor_class(options.kind).reads == "audio" and view not in options.augment:
                raise document.error(
                    ("heads", name, "views"),
                    f"'{view}' is not under features.{feature}.augment; "
                    f"{nearest(view, list(options.augment))}",
                )
