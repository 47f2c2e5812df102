"""A JSON Schema of pipeline.yaml, by which editors complete and check the file.

It is made of the models that read the sections and of the registries, so it has every part that is
known: a part of one's own once its module is imported. Where the keys of an entry depend on the
name of a part (`kind` of a feature, `head`, `name` of a loss), there is a schema for each part.

What one section takes from another (the features of a head, say) is not in it: only
`Pipeline.load` checks that.
"""

from collections.abc import Iterable, Mapping
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
Refs = Mapping[Any, Schema]  # of definitions, by model
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def pipeline_schema() -> Schema:
    """Return the schema of pipeline.yaml, with every part that is known in this process."""
    kinds = {name: EXTRACTORS.get(name).Options for name in _names(EXTRACTORS)}
    heads = {name: HEADS.about(name) for name in _names(HEADS)}
    losses = {name: LOSSES.about(name).options for name in _names(LOSSES)}
    samplers = {name: SAMPLERS.about(name) for name in _names(SAMPLERS)}
    stacks = [o for name in _names(META_MODELS) if (o := META_MODELS.about(name).options)]
    sections = (CorpusConfig, StackConfig, ScoreConfig, RotationConfig, HeadConfig, FineTuneConfig)
    parts = [*kinds.values(), *heads.values(), *losses.values(), *samplers.values(), *stacks]
    models: dict[type[BaseModel], None] = dict.fromkeys(
        [*sections, *parts, *VIEWS.values(), Sampler]
    )
    named, defined = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}"
    )
    refs = {model: ref for (model, _), ref in named.items()}
    defs: dict[str, Schema] = defined["$defs"]
    _short_forms(defs, losses, samplers, refs)
    defs["Views"] = _views(refs)
    _restrict_names(defs, [refs[options] for options in stacks])
    feature = _feature(defs, kinds, refs)
    head = _keys(defs, refs[HeadConfig], without={"architecture"})
    tuned = _keys(defs, refs[FineTuneConfig], without={"training", "augment"})
    tuned |= {key: value for key, value in head.items() if key not in NOT_ALLOWED}
    tuned["augment"] = {"$ref": "#/$defs/Views"}
    options = {name: _keys(defs, refs[cls]) for name, cls in heads.items()}
    assert set(MODEL_KEYS) < set(tuned)
    for section in (StackConfig, ScoreConfig, RotationConfig):  # each may be empty
        defs[section.__name__] = _nullable(defs[section.__name__])
    heads = _entries(_by_head(defs, "head", head, options), nullable=True)
    switch = {"anyOf": [{"type": "boolean"}, heads["additionalProperties"]]}
    properties = {
        "corpus": refs[CorpusConfig],
        "cache": {"type": "string", "description": "Folder or URL of the cached features."},
        "run": {"type": "string", "description": "Folder of heads, stack and report."},
        "features": _entries(feature),
        "heads": heads | {"properties": {BASELINE: switch}},
        "finetune": _entries(_by_head(defs, "finetuned", tuned, options), nullable=True),
        "stack": refs[StackConfig],
        "score": refs[ScoreConfig],
        "cv": refs[RotationConfig],
        "plugins": _nullable({"type": "array", "items": {"type": "string"}}),
    }
    assert set(properties) == set(SECTIONS)
    schema = {
        "$schema": DRAFT,
        "title": "pipeline.yaml of ser",
        "type": "object",
        "required": ["corpus", "cache", "run"],
        "additionalProperties": False,
        "properties": properties,
    }
    return schema | {"$defs": _used(defs, properties)}


def _names(registry: Registry[Any, Any]) -> list[str]:
    return [entry.name for entry in registry.list()]


def _keys(defs: Mapping[str, Schema], ref: Schema, without: Iterable[str] = ()) -> Schema:
    """Return the properties of a definition as references to them."""
    place = ref["$ref"]
    names = defs[place.rpartition("/")[2]].get("properties", {})
    return {key: {"$ref": f"{place}/properties/{key}"} for key in names if key not in without}


def _nullable(schema: Schema) -> Schema:
    if "type" in schema:
        return schema | {"type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _entries(entry: Schema, nullable: bool = False) -> Schema:
    """Return the schema of a section of named entries."""
    entry = _nullable(entry) if nullable else entry
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
    defs: dict[str, Schema],
    losses: Mapping[str, type[BaseModel]],
    samplers: Mapping[str, type[BaseModel]],
    refs: Refs,
) -> None:
    """Allow what the models read in a short form: `loss: [wce]`, `features: [voice]`."""
    for base, parts, default in ((LossUse, losses, None), (SamplerUse, samplers, refs[Sampler])):
        choice = _choice("name", {name: refs[cls] for name, cls in parts.items()}, default)
        defs[base.__name__] = {"anyOf": [{"enum": list(parts)}, choice]}
    for model, short in ((FeatureUse, "string"), (CrossFit, "integer")):
        defs[model.__name__] = {"anyOf": [{"type": short}, defs[model.__name__]]}


def _views(refs: Refs) -> Schema:
    views = {name: _nullable(refs[view]) for name, view in VIEWS.items()}
    return {"type": "object", "properties": views, "additionalProperties": False}


def _restrict_names(defs: Mapping[str, Schema], options: list[Schema]) -> None:
    """List the names of parts where the models only have text, as they look them up later."""
    stack, head = defs[StackConfig.__name__]["properties"], defs[HeadConfig.__name__]["properties"]
    metrics = _names(METRICS)
    stack["model"] |= {"enum": _names(META_MODELS)}
    stack["options"] = {"anyOf": [{"type": "null"}, *options]}
    head["head"] |= {"enum": _names(HEADS)}
    head["best_by"] = {"enum": [None, "ccc", "loss", *metrics]}
    defs[ScoreConfig.__name__]["properties"]["metrics"]["items"] = {"enum": metrics}


def _feature(
    defs: dict[str, Schema],
    kinds: Mapping[str, type[BaseModel]],
    refs: Refs,
) -> Schema:
    """Return the schema of an entry of `features:`, whose kind may follow from a known model."""
    entries = {}
    for kind, options in kinds.items():
        schema = dict(defs[refs[options]["$ref"].rpartition("/")[2]])
        keys = schema["properties"] | {
            "kind": {"const": kind},
            "augment": {"$ref": "#/$defs/Views"},
        }
        # the kind may follow from the model, and the classes are the corpus's
        required = [key for key in schema.get("required", []) if key not in ("kind", "classes")]
        defs[f"feature-{kind}"] = schema | {"properties": keys, "required": required}
        entries[kind] = {"$ref": f"#/$defs/feature-{kind}"}
    models = {name: entries[card.kind] for name, card in MODELS.items() if card.kind in entries}
    every = {key for kind in kinds for key in defs[f"feature-{kind}"]["properties"]}
    other = {"properties": dict.fromkeys(sorted(every), True), "additionalProperties": False}
    without_kind = {"required": ["model"], "allOf": _choice("model", models)["allOf"]}
    unknown = {"properties": {"model": {"not": {"enum": list(models)}}}}
    without_kind["allOf"].append({"if": unknown, "then": other})
    return _choice("kind", entries, without_kind)


def _by_head(
    defs: dict[str, Schema], prefix: str, keys: Schema, options: Mapping[str, Schema]
) -> Schema:
    """Return the schema of an entry with a head; any options fit where `head` is in the defaults.

    Nothing is required, as the defaults may have it.
    """
    every: dict[str, list[Schema]] = {}
    for own in options.values():
        for key, value in own.items():
            every.setdefault(key, []).append(value)
    merged = {key: {"anyOf": values} for key, values in every.items()}
    schemas = {name: keys | own for name, own in options.items()} | {"": keys | merged}
    for name, properties in schemas.items():
        defs[f"{prefix}-{name or 'of-defaults'}"] = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
    refs = {name: {"$ref": f"#/$defs/{prefix}-{name}"} for name in options}
    return _choice("head", refs, {"$ref": f"#/$defs/{prefix}-of-defaults"})


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
