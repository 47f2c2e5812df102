"""The sections of pipeline.yaml, each read by the model of the folder that it configures."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import or_
from pathlib import Path

from ser.corpus.bounded_yaml import Entry
from ser.corpus.config import VARIABLE, CorpusConfig
from ser.corpus.errors import UserError
from ser.extract.extractor import EXTRACTORS, FeatureOptions, parse_options
from ser.extract.registry import kind_of
from ser.finetune.config import FineTuneConfig, finetune_keys, parse_finetune
from ser.heads.config import HeadConfig, merged, parse_head, valid_keys
from ser.pipeline.document import Document, Model


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
