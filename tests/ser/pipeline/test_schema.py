import copy
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from ser.corpus.bounded_yaml import parse_yaml
from ser.corpus.config import Section
from ser.heads.registry import SAMPLERS
from ser.pipeline.schema import pipeline_schema

ROOT = Path(__file__).resolve().parents[3]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
PIPELINE = """\
corpus: {manifest: m.csv}
cache: c
run: r
features:
  voice: {kind: speech, model: wavlm-base, augment: {noise: {}, speed: }}
heads:
  defaults: {hidden: 8, cross_fit: 5}
  plain:
  fused: {head: deep_fusion, features: [voice, {name: voice, stride: 2}], feed_forward: 8}
stack: {model: mean_proba}
score:
"""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = pipeline_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("path", [*PRESETS, ROOT / "pipeline.yaml"], ids=lambda p: p.stem)
def test_every_preset_is_valid(validator, path) -> None:
    data = parse_yaml(path.name, path.read_text()).value
    assert [error.message for error in validator.iter_errors(data)] == []
    assert len(PRESETS) > 15


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("corpora", {}),
        ("corpus.clases", ["a", "b"]),
        ("corpus.others", "skip"),
        ("features.voice.kind", "speach"),
        ("features.voice.language", "de"),
        ("features.voice.augment.nois", {}),
        ("features.voice", {"kind": "text", "model": "roberta-base"}),  # without `of`
        ("features.voice", {"model": "wavlm-base", "language": "de"}),
        ("heads.plain", {"epoch": 3}),
        ("heads.plain", {"loss": ["wec"]}),
        ("heads.plain", {"loss": [{"name": "focal", "gama": 1}]}),
        ("heads.plain", {"sampler": {"no_consensus": -1}}),
        ("heads.plain", {"best_by": "f1"}),
        ("heads.fused.head", "mean_mlp"),  # which has no feed_forward
        ("heads.fused.features", [{"name": "voice", "strid": 2}]),
        ("finetune.mine", {"model": "wavlm-base", "lora": {"rnk": 8}}),
        ("finetune.mine", {"model": "wavlm-base", "views": ["noise"]}),  # a key of heads alone
        ("stack.model", "forest"),
        ("stack.options", {"k": 1}),
        ("score", {"metrics": ["wa"]}),
        ("cv", {"bye": "speaker"}),
    ],
)
def test_a_wrong_key_or_name_is_found(validator, where, value) -> None:
    data = parse_yaml("p.yaml", PIPELINE).value
    assert list(validator.iter_errors(data)) == []
    wrong = copy.deepcopy(data)
    *parents, last = where.split(".")
    place = wrong
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    assert list(validator.iter_errors(wrong)) != []


def test_short_forms_and_keys_that_follow_from_the_defaults_are_valid(validator) -> None:
    data = parse_yaml("p.yaml", PIPELINE).value
    data["corpus"] |= {"map": {"joy": "happy"}, "others": "drop"}
    data["features"] |= {"chosen": {"model": "wavlm-base", "overlap": 2}}
    data["features"] |= {"tuned": {"model": "runs/x/finetuned/y", "layer": 3}}
    data["heads"]["plain"] = {"feed_forward": 8, "loss": ["wce", {"name": "kld", "weight": 2}]}
    data["heads"]["fused"] |= {"sampler": {"no_consensus": 1}, "phases": [{"epochs": 2}]}
    data["finetune"] = {"mine": {"model": "wavlm-base", "lora": {"rank": 2}, "hidden": 8}}
    data["cv"] = {"by": "session"}
    assert [error.message for error in validator.iter_errors(data)] == []


def test_a_part_of_a_users_is_in_the_schema_once_it_is_registered() -> None:
    class Every(Section):
        name: str
        nth: int = 2

    SAMPLERS.add("every", lambda rows, options: rows, Every)
    try:
        schema = Draft202012Validator(pipeline_schema())
    finally:
        SAMPLERS.remove("every")
    data = parse_yaml("p.yaml", PIPELINE).value
    data["heads"]["plain"] = {"sampler": {"name": "every", "nth": 3}}
    assert list(schema.iter_errors(data)) == []
    data["heads"]["plain"] = {"sampler": {"name": "every", "no_consensus": 1}}
    assert list(schema.iter_errors(data)) != []
