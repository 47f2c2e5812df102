"""The sections of pipeline.yaml, each read by the model of the folder that it configures.

Names that one section takes from another are checked to exist, and by kind.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import or_
from pathlib import Path

from ser.corpus.bounded_yaml import Entry
from ser.corpus.config import VARIABLE, CorpusConfig
from ser.corpus.errors import UserError, nearest
from ser.extract.extractor import EXTRACTORS, TRANSCRIPT, FeatureOptions, parse_options
from ser.extract.registry import kind_of
from ser.finetune.config import FineTuneConfig, finetune_keys, parse_finetune
from ser.heads.config import HeadConfig, merged, parse_head, valid_keys
from ser.pipeline.document import Document, Model
from ser.stack.config import StackConfig


def read_overrides(overrides: Iterable[str]) -> Document:
    """Return a document of the values of `--set` alone, for a call without a pipeline."""
    document = Document("--set", "{}")
    for override in overrides:
        document.override(override)
    return document


def read_section(document: Document, key: str, model: type[Model]) -> Model:
    """Read a section that is one mapping; raises `UserError` for its first mistake."""
    entry = document.mapping((key,))
    return document.validate((key,), model, lambda: model.model_validate(entry))


def read_corpus(document: Document, base: Path) -> CorpusConfig:
    """Read `corpus:`, its paths relative to `base`; those with a variable that is not set stay."""
    config = read_section(document, "corpus", CorpusConfig)
    paths = {"manifest": config.manifest, "audio": config.audio}
    absolute = {
        key: base / path
        for key, path in paths.items()
        if path is not None and not VARIABLE.search(str(path))
    }
    return config.model_copy(update=absolute)


def read_features(
    document: Document, base: Path, finetuned: Mapping[Path, FineTuneConfig], classes: Sequence[str]
) -> dict[str, FeatureOptions]:
    """Read `features:`; `finetuned` are the folders of models that `finetune:` will write.

    Options that have `classes` get the corpus's where the file gives none.
    """
    features = {}
    for name in document.names("features"):
        where = ("features", name)
        entry = document.mapping(where)
        model = document.path((*where, "model"), entry["model"]) if "model" in entry else None
        folder = (base / str(model)).resolve()
        if model is not None and folder in finetuned:
            defaults = finetuned[folder].as_feature(str(folder))
            defaults.pop("precision", None)
            entry = defaults | entry | {"model": str(folder)}
        elif model is not None and (base / model).is_dir():
            entry["model"] = str(base / model)
        if "file" in entry and entry.get("kind") == "imported_transcripts":
            file = document.path((*where, "file"), entry["file"])
            entry["file"] = file if VARIABLE.search(file) else str(base / file)
        options = _options_class(entry)
        if "classes" in options.model_fields:
            entry = {"classes": classes} | entry
        features[name] = document.validate(where, options, partial(parse_options, entry))
    return features


def _options_class(entry: Mapping[str, object]) -> type[FeatureOptions]:
    try:
        kind = str(entry.get("kind") or kind_of(str(entry.get("model"))))
        return EXTRACTORS.get(kind).Options
    except UserError:  # `parse_options` raises it again, where the line is known
        return FeatureOptions


def _entries(
    document: Document,
    section: str,
    merge: Callable[[Entry, Entry], Entry],
    valid_keys: Callable[[Entry], Sequence[str]],
) -> Iterator[tuple[str, Entry]]:
    """Yield each entry of a section by name, over the `defaults`.

    Raises `UserError` for an unknown key, at the entry's own line or that of the defaults.
    """
    defaults = document.mapping((section, "defaults"))
    for name in document.names(section):
        own = document.mapping((section, name))
        with document.at((section, name)):
            entry = merge(defaults, own)
            valid = valid_keys(entry)
        for key in entry:
            if key not in valid:
                raise document.unknown((section, name if key in own else "defaults", key), valid)
        yield name, entry


def read_heads(document: Document, base: Path) -> dict[str, HeadConfig]:
    """Read `heads:`, each entry over the `defaults`."""
    heads = {}
    for name, entry in _entries(document, "heads", merged, valid_keys):
        if isinstance(init := entry.get("init"), str):
            entry["init"] = str(base / init)
        heads[name] = document.validate(("heads", name), HeadConfig, partial(parse_head, entry))
    return heads


def read_finetune(document: Document, base: Path) -> dict[str, FineTuneConfig]:
    """Read `finetune:`, each entry over the `defaults`."""
    configs = {}
    for name, entry in _entries(document, "finetune", or_, finetune_keys):
        where = ("finetune", name)
        if "model" in entry and (base / document.path((*where, "model"), entry["model"])).is_dir():
            entry["model"] = str(base / entry["model"])
        make = partial(parse_finetune, name, entry)
        configs[name] = document.validate(where, FineTuneConfig, make)
    return configs


def check_names(
    document: Document,
    features: Mapping[str, FeatureOptions],
    heads: Mapping[str, HeadConfig],
    classes: Sequence[str],
) -> None:
    """Raise `UserError` for a feature or head that names a missing or unsuitable feature."""
    frames = [f for f, o in features.items() if EXTRACTORS.get(o.kind).gives == "frames"]
    for name, options in features.items():
        kind = EXTRACTORS.get(options.kind)
        if options.augment and ((kind.reads, kind.gives) != ("audio", "frames")):
            raise document.error(
                ("features", name, "augment"),
                f"kind {options.kind} cannot be augmented; only features that read audio can.",
            )
        if options.transcripts is not None:
            _check_transcripts(document, ("features", name, "of"), options.transcripts, features)
    for name, config in heads.items():
        for feature in config.feature_names:
            scored = getattr(features.get(feature), "classes", classes)
            if config.head == "class_scores" and scored != classes:
                raise document.error(
                    ("features", feature, "classes"),
                    f"head '{name}' needs the classes of the corpus in their order; leave "
                    "`classes` out.",
                )
            if feature not in frames:
                raise document.error(
                    ("heads", name, "features"),
                    f"'{feature}' is not a feature with frames under features; "
                    f"{nearest(feature, frames)}",
                )
        _check_views(document, features, name, config)


def check_stack(document: Document, stack: StackConfig, heads: Mapping[str, HeadConfig]) -> None:
    """Raise `UserError` for a head under `stack.heads` that does not exist."""
    systems = [*heads, *document.names("finetune")]
    for name in stack.heads or ():
        if name not in systems:
            raise document.error(
                ("stack", "heads"), f"there is no head '{name}'; {nearest(name, systems)}"
            )


def check_finetune(
    document: Document,
    finetune: Mapping[str, FineTuneConfig],
    features: Mapping[str, FeatureOptions],
    heads: Mapping[str, HeadConfig],
) -> None:
    """Raise `UserError` for a name that features or heads have too, and for missing transcripts."""
    for name, config in finetune.items():
        where = ("finetune", name)
        if name in features or name in heads:
            other = "features" if name in features else "heads"
            raise document.error(where, f"'{name}' is also under {other}; rename one of the two.")
        if config.kind == "text":
            _check_transcripts(document, (*where, "of"), config.of, features)


def transcribers(features: Mapping[str, FeatureOptions]) -> list[str]:
    """Return the features that are transcripts."""
    return [f for f, o in features.items() if EXTRACTORS.get(o.kind).gives == "transcripts"]


def _check_transcripts(
    document: Document, where: tuple[str, ...], of: str, features: Mapping[str, FeatureOptions]
) -> None:
    words = [*transcribers(features), TRANSCRIPT]
    if of not in words:
        problem = f"'{of}' is not a feature with transcripts; {nearest(of, words)}"
        raise document.error(where, problem)


def _check_views(
    document: Document, features: Mapping[str, FeatureOptions], name: str, config: HeadConfig
) -> None:
    """Raise `UserError` for a view of a head that one of its audio features does not have."""
    for feature in config.feature_names:
        options = features[feature]
        for view in config.views:
            if EXTRACTORS.get(options.kind).reads == "audio" and view not in options.augment:
                raise document.error(
                    ("heads", name, "views"),
                    f"'{view}' is not under features.{feature}.augment; "
                    f"{nearest(view, list(options.augment))}",
                )
