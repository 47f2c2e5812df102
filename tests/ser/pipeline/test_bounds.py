"""Every number of every section has bounds, and none is text, a boolean or without end."""

import copy
import inspect
import math
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ser.corpus.config import Section
from ser.corpus.errors import UserError
from ser.pipeline.file import Pipeline

MODULES = (
    "ser.corpus.augment",
    "ser.corpus.config",
    "ser.extract.kinds.llm",
    "ser.extract.kinds.prosody",
    "ser.extract.kinds.speech",
    "ser.extract.kinds.text",
    "ser.extract.kinds.whisper",
    "ser.heads.config",
    "ser.heads.options",
    "ser.score.config",
    "ser.finetune.config",
    "ser.stack.config",
)
SECTIONS = dict(
    sorted(
        (f"{found.__module__}.{found.__name__}", found)
        for module in map(import_module, MODULES)
        for found in vars(module).values()
        if inspect.isclass(found) and issubclass(found, Section)
    )
)
FIELDS = [
    pytest.param(section, field, id=f"{name}.{field}")
    for name, section in SECTIONS.items()
    for field in section.model_fields
]
WRONG = [10**35, -(10**35), True, math.nan, math.inf, 1e300, "nan", "9" * 6000, "x" * 30_000, ""]


def refused(section, field, value):
    try:
        section.model_validate({field: value})
    except UserError:  # of a view
        return True
    except ValidationError as found:
        error = found
    return any(e["loc"][:1] == (field,) for e in error.errors(include_context=False))


def holds(annotation, kinds):
    """Tell whether values of these types may be in a field, not counting sections."""
    if get_origin(annotation) is Literal:
        return False
    return annotation in kinds or any(holds(part, kinds) for part in get_args(annotation))


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_no_number_is_out_of_all_bounds(section, field):
    annotation = section.model_fields[field].annotation
    if holds(annotation, {int, float}) and not holds(annotation, {Any}):
        for value in WRONG:
            if not (isinstance(value, str) and holds(annotation, {str})):
                assert refused(section, field, value), value
                assert refused(section, field, [value]), value
                assert refused(section, field, {"a": value}), value


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_no_text_or_list_is_without_end(section, field):
    annotation = section.model_fields[field].annotation
    if holds(annotation, {str}) and not holds(annotation, {Any}):
        assert refused(section, field, "x" * 30_000)
    if any(get_origin(part) is tuple for part in (annotation, *get_args(annotation))):
        items = ["x"] * 20_000 if holds(annotation, {str}) else [1] * 20_000
        assert refused(section, field, items)


PIPELINE = """\
corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}
cache: cache
run: run
finetune:
  defaults: {epochs: 1}
  ft:
    {model: wavlm-large, kind: speech, layer: "mean:-4:", freeze: ["layers:3"], lora: {rank: 8},
     augment: {noise: {snr: [5, 10]}}, head: attentive_stats, loss: [{name: ce, weight: 1.0}]}
features:
  words: {kind: asr, model: whisper-tiny.en, window: trim, language: en, silence: 3.0}
  whisper: {model: whisper-tiny.en, layer: all, augment: {noise: {}, speed: {rates: [0.9]}}}
  text: {kind: text, model: minilm, of: words, quantize: none}
  llm: {kind: llm, server: "http://x/v1", model: m, of: words, key: K, extra: {a: 1}, samples: 1}
  prosody: {kind: prosody}
heads:
  defaults: {epochs: 2, lr: 0.01, batch: 16, head: mean_mlp}
  one:
    {features: [{name: whisper, stride: 8, layer: [1, 2], normalize: corpus}], views: [noise],
     hidden: 8, augment: {mixup: 0.1}, cross_fit: 3, init: x.safetensors}
  two:
    {head: cross_modal_gru, features: [prosody, text], loss: [wce, {name: focal, gamma: 2}],
     attention_heads: {prosody: 2}, phases: [{epochs: 1, lr: 0.1, loss: [ce]}], betas: [0.9, 0.99]}
  zero: {head: class_scores, features: [llm], epochs: 0}
stack: {model: random_forest, heads: [one, two], folds: 3, random_forest: {trees: 5}}
score: {bootstrap: 3, groups: [gender]}
"""
WHOLE = yaml.safe_load(PIPELINE)
ODD = [
    None,
    True,
    0,
    -1,
    10**35,
    1e308,
    math.inf,
    math.nan,
    "",
    "x" * 300,
    "é" * 200,
    "a/b",
    "1e999",
]
ODD += [[], [[]], ["x", "x"], [None], {}, {"a": None}, {"name": ["x"]}, [{"name": ["x"]}], {"": ""}]
ODD += ["9" * 500, "mean:9999999:", "s3://u:p@x", "http://[", "stack", ["whisper"], "${UNSET_HERE}"]


def places(value, where=()):
    """List the place of every value within a value."""
    if not isinstance(value, dict | list):
        return [where]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [where, *(p for key, each in inner for p in places(each, (*where, key)))]


def test_an_unchanged_file_is_read(tmp_path):
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    assert list(Pipeline.load(tmp_path / "pipeline.yaml").heads) == ["one", "two", "zero"]


@settings(deadline=None)
@given(st.sampled_from(places(WHOLE)[1:]), st.sampled_from(ODD))
def test_any_value_at_any_place_is_read_or_refused_with_a_sentence(where, value):
    changed = copy.deepcopy(WHOLE)
    place = changed
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(yaml.safe_dump(changed))
        try:
            Pipeline.load(path).resolved()
        except UserError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 1500
