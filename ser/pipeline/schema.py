"""A JSON Schema of pipeline.yaml, by which editors complete and check the file.

It is made of the models that read the sections and of the registries, so it has every part that is
known: a part of one's own once its module is imported. Where the keys of an entry depend on the
name of a part (`kind` of a feature, `head`, `name` of a loss), there is a schema for each part.

What one section takes from another (the features of a head, say) is not in it: only
`Pipeline.load` checks that.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ser.corpus.augment import VIEWS
from ser.corpus.config import CorpusConfig
from ser.corpus.registry import Registry
from ser.corpus.rotations import RotationConfig
from ser.extract.extractor import EXTRACTORS
from ser.extract.registry import MODELS
from ser.finetune.config import MODEL_KEYS, NOT_ALLOWED, FineTuneConfig
from ser.heads.config import CrossFit, HeadConfig
from ser.heads.feature_use import FeatureUse
from ser.heads.options import LossUse, Sampler, SamplerUse
from ser.heads.registry import HEADS, LOSSES, SAMPLERS
from ser.pipeline.document import BASELINE
from ser.pipeline.file import SECTIONS
from ser.score.config import ScoreConfig
from ser.score.metrics import METRICS
from ser.stack.config import StackConfig
from ser.stack.registry import META_MODELS

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
VIEWS_REF = {"$ref": "#/$defs/Views"}


def pipeline_schema() -> Schema:
    """Return the schema of pipeline.yaml, with every part that is known in this process."""
    kinds = {name: EXTRACTORS.get(name).Options for name in _names(EXTRACTORS)}
    heads = {name: HEADS.about(name) for name in _names(HEADS)}
    losses = {name: LOSSES.about(name).options for name in _names(LOSSES)}
    samplers = {name: SAMPLERS.about(name) for name in _names(SAMPLERS)}
    stacks = [o for name in _names(META_MODELS) if (o := META_MODELS.about(name).options)]
    parts = [*kinds.values(), *heads.values(), *losses.values(), *samplers.values(), *stacks]
    sections = (CorpusConfig, StackConfig, ScoreConfig, RotationConfig, HeadConfig, FineTuneConfig)
    defs = _Definitions([*sections, *parts, *VIEWS.values(), Sampler])
    _short_forms(defs, losses, samplers)
    _restrict_names(defs, stacks)
    views = {name: _nullable(defs.refs[view]) for name, view in VIEWS.items()}
    defs["Views"] = _mapping(views)
    for section in (StackConfig, ScoreConfig, RotationConfig):  # each may be empty
        defs[section.__name__] = _nullable(defs.of(section))
    properties = {
        "corpus": defs.refs[CorpusConfig],
        "cache": {"type": "string", "description": "Folder or URL of the cached features."},
        "run": {"type": "string", "description": "Folder of heads, stack and report."},
        "features": _entries(_feature(defs, kinds)),
        **_trained(defs, {name: defs.properties(options) for name, options in heads.items()}),
        "stack": defs.refs[StackConfig],
        "score": defs.refs[ScoreConfig],
        "cv": defs.refs[RotationConfig],
        "plugins": _nullable({"type": "array", "items": {"type": "string"}}),
    }
    assert set(properties) == set(SECTIONS)
    return {
        "$schema": DRAFT,
        "title": "pipeline.yaml of ser",
        "type": "object",
        "required": ["corpus", "cache", "run"],
        "additionalProperties": False,
        "properties": properties,
        "$defs": _used(defs, properties),
    }


class _Definitions(dict[str, Schema]):
    """The definitions of a schema by name; `refs` has a reference to that of each model."""

    def __init__(self, models: Iterable[type[BaseModel]]) -> None:
        named, schema = models_json_schema(
            [(model, "validation") for model in dict.fromkeys(models)],
            ref_template="#/$defs/{model}",
        )
        super().__init__(schema["$defs"])
        self.refs = {model: ref for (model, _), ref in named.items()}

    def of(self, model: type[BaseModel]) -> Schema:
        """Return the definition of a model."""
        return self[self.refs[model]["$ref"].rpartition("/")[2]]

    def properties(self, model: type[BaseModel], without: Iterable[str] = ()) -> Schema:
        """Return the properties of a model as references to them."""
        place, names = self.refs[model]["$ref"], self.of(model).get("properties", {})
        return {key: {"$ref": f"{place}/properties/{key}"} for key in names if key not in without}

    def add(self, name: str, schema: Schema) -> Schema:
        """Add a definition; return a reference to it."""
        self[name] = schema
        return {"$ref": f"#/$defs/{name}"}


def _names(registry: Registry[Any, Any]) -> list[str]:
    return [entry.name for entry in registry.list()]


def _mapping(properties: Schema) -> Schema:
    """Return the schema of a mapping with these keys and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _nullable(schema: Schema) -> Schema:
    if "type" in schema:
        return schema | {"type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _entries(entry: Schema) -> Schema:
    """Return the schema of a section of named entries."""
    return _nullable({"type": "object", "additionalProperties": entry})


def _choice(key: str, refs: Mapping[str, Schema], default: Schema | None = None) -> Schema:
    """Return the schema of a mapping whose other keys depend on the value of `key`."""
    by_place: dict[str, list[str]] = {}
    for name, ref in refs.items():
        by_place.setdefault(ref["$ref"], []).append(name)
    branches = [
        {
            "if": {"type": "object", "properties": {key: {"enum": names}}, "required": [key]},
            "then": {"$ref": place},
        }
        for place, names in by_place.items()
    ]
    schema: Schema = {"type": "object", "properties": {key: {"enum": list(refs)}}}
    if default is None:
        return schema | {"required": [key], "allOf": branches}
    return schema | {"allOf": [*branches, {"if": {"not": {"required": [key]}}, "then": default}]}


def _short_forms(
    defs: _Definitions,
    losses: Mapping[str, type[BaseModel]],
    samplers: Mapping[str, type[BaseModel]],
) -> None:
    """Allow what the models read in a short form: `loss: [wce]`, `features: [voice]`."""
    own = defs.refs[Sampler]
    for base, parts, default in ((LossUse, losses, None), (SamplerUse, samplers, own)):
        choice = _choice("name", {name: defs.refs[cls] for name, cls in parts.items()}, default)
        defs[base.__name__] = {"anyOf": [{"enum": list(parts)}, choice]}
    for model, short in ((FeatureUse, "string"), (CrossFit, "integer")):
        defs[model.__name__] = {"anyOf": [{"type": short}, defs[model.__name__]]}


def _restrict_names(defs: _Definitions, options: Sequence[type[BaseModel]]) -> None:
    """List the names of parts where the models only have text, as they look them up later."""
    stack, head = defs.of(StackConfig)["properties"], defs.of(HeadConfig)["properties"]
    metrics = _names(METRICS)
    stack["model"] |= {"enum": _names(META_MODELS)}
    stack["options"] = {"anyOf": [{"type": "null"}, *(defs.refs[cls] for cls in options)]}
    head["head"] |= {"enum": _names(HEADS)}
    head["best_by"] = {"enum": [None, "ccc", "loss", *metrics]}
    defs.of(ScoreConfig)["properties"]["metrics"]["items"] = {"enum": metrics}


def _feature(defs: _Definitions, kinds: Mapping[str, type[BaseModel]]) -> Schema:
    """Return the schema of an entry of `features:`, whose kind may follow from a known model."""
    entries, every = {}, set[str]()
    for kind, options in kinds.items():
        schema = defs.of(options)
        keys = schema["properties"] | {"kind": {"const": kind}, "augment": VIEWS_REF}
        # the kind may follow from the model, and the classes are the corpus's
        required = [key for key in schema.get("required", []) if key not in ("kind", "classes")]
        entry = schema | {"properties": keys, "required": required}
        entries[kind] = defs.add(f"feature-{kind}", entry)
        every |= set(keys)
    models = {name: entries[card.kind] for name, card in MODELS.items() if card.kind in entries}
    other = {"properties": dict.fromkeys(sorted(every), True), "additionalProperties": False}
    unknown = {"properties": {"model": {"not": {"enum": list(models)}}}}
    branches = [*_choice("model", models)["allOf"], {"if": unknown, "then": other}]
    return _choice("kind", entries, {"required": ["model"], "allOf": branches})


def _trained(defs: _Definitions, options: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the schemas of `heads:` and `finetune:`; `options` has the keys of each head."""
    head = defs.properties(HeadConfig, without={"architecture"})
    tuned = defs.properties(FineTuneConfig, without={"training", "augment"})
    tuned |= {key: value for key, value in head.items() if key not in NOT_ALLOWED}
    tuned["augment"] = VIEWS_REF
    assert set(MODEL_KEYS) < set(tuned)
    entry = _nullable(_by_head(defs, "head", head, options))
    switch = {BASELINE: {"anyOf": [{"type": "boolean"}, entry]}}
    return {
        "heads": _entries(entry) | {"properties": switch},
        "finetune": _entries(_nullable(_by_head(defs, "finetuned", tuned, options))),
    }


def _by_head(
    defs: _Definitions, prefix: str, keys: Schema, options: Mapping[str, Schema]
) -> Schema:
    """Return the schema of an entry with a head; any options fit where `head` is in the defaults.

    Nothing is required, as the defaults may have it.
    """
    every: dict[str, list[Schema]] = {}
    for own in options.values():
        for key, value in own.items():
            every.setdefault(key, []).append(value)
    merged = {key: {"anyOf": values} for key, values in every.items()}
    refs = {
        name: defs.add(f"{prefix}-{name}", _mapping(keys | own))
        for name, own in {**options, "of-defaults": merged}.items()
    }
    default = refs.pop("of-defaults")
    return _choice("head", refs, default)


def _used(defs: Mapping[str, Schema], start: object) -> dict[str, Schema]:
    """Return the definitions that are referred to, directly or by another."""
    used: dict[str, Schema] = {}
    pending = [start]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).removeprefix("#/$defs/").partition("/")[0]
            if name and name not in used:
                used[name] = defs[name]
                pending.append(defs[name])
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return dict(sorted(used.items()))
