import re
from pathlib import Path

import pytest

from ser.corpus.errors import UserError
from ser.finetune.config import parse_finetune
from ser.pipeline.file import Pipeline
from ser.presets import preset
from tests.ser.factories import PIPELINE


def test_an_entry_is_a_model_and_a_head():
    config = parse_finetune("w", {"model": "wavlm-large", "loss": ["ccc"], "epochs": 3, "crop": 8})
    assert (config.kind, config.freeze, config.crop, config.hear) == ("speech", None, 8.0, 30.0)
    assert (config.training.head, config.training.feature_names) == ("attentive_stats", ["w"])
    assert (config.training.epochs, config.training.chosen_by) == (3, "ccc")
    assert config.as_feature("f") == {"kind": "speech", "model": "f", "precision": "float32"}
    whisper = parse_finetune("w", {"model": "whisper-tiny", "layer": "mean:-2:", "freeze": "all"})
    assert whisper.freeze == ("all",)
    assert whisper.as_feature("f") == {
        "kind": "whisper",
        "model": "f",
        "precision": "float32",
        "layer": "mean:-2:",
        "window": "trim",
    }


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "{modle: wavlm-large}",
            "p.yaml:10: finetune.ft.modle: unknown key; did you mean 'model'?",
        ),
        ("{epochs: 3}", "p.yaml:10: finetune.ft.model: the value is missing; give one."),
        (
            "{model: wavlm-large, epochs: -1}",
            "p.yaml:10: finetune.ft.epochs: it must be greater than or equal to 0; correct "
            "the value.",
        ),
        (
            "{model: wavlm-large, freeze: [middle]}",
            "p.yaml:10: finetune.ft.freeze: 'middle' cannot be frozen; use feature_encoder, "
            "embeddings, layers:k or all.",
        ),
        (
            "{model: wavlm-large, lora: {rnk: 4}}",
            "p.yaml:10: finetune.ft.lora.rnk: unknown key; did you mean 'rank'?",
        ),
        (
            "{model: roberta-base, of: words}",
            "p.yaml:10: finetune.ft.of: 'words' is not a feature with transcripts; choose from "
            "transcript.",
        ),
        (
            "{model: wavlm-large, standardize: true}",
            "p.yaml:10: finetune.ft: standardize: not possible, as the pooled frames change during "
            "training; correct the value.",
        ),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(tmp_path, monkeypatch, entry, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(f"{PIPELINE}finetune:\n  ft: {entry}\n")
    with pytest.raises(UserError) as raised:
        Pipeline.load("p.yaml")
    lines = PIPELINE.count("\n")
    assert str(raised.value) == said.replace("p.yaml:10", f"p.yaml:{lines + 2}")


@pytest.mark.parametrize("key", ["cross_fit: 5", "features: [a]", "views: [noise]", "init: a"])
def test_keys_of_a_head_that_make_no_sense_are_unknown(tmp_path, key):
    path = tmp_path / "p.yaml"
    path.write_text(f"{PIPELINE}finetune:\n  ft: {{model: wavlm-large, {key}}}\n")
    with pytest.raises(UserError, match=rf"finetune\.ft\.{key.split(':')[0]}: unknown key; "):
        Pipeline.load(path)


@pytest.mark.parametrize(("name", "section"), [("prosody", "features"), ("two", "heads")])
def test_a_name_appears_once(tmp_path, name, section):
    path = tmp_path / "p.yaml"
    path.write_text(f"{PIPELINE}finetune:\n  {name}: {{model: wavlm-large}}\n")
    with pytest.raises(UserError, match=rf"'{name}' is also under {section}; rename one"):
        Pipeline.load(path)


def test_a_model_that_is_yet_to_be_made_is_a_feature_already(tmp_path):
    path = tmp_path / "p.yaml"
    text = PIPELINE.replace("heads:", "  tuned: {model: run/finetuned/ft}\nheads:")
    path.write_text(f"{text}finetune:\n  ft: {{model: wavlm-large}}\n")
    pipeline = Pipeline.load(path)
    assert pipeline.features["tuned"].kind == "speech"
    assert pipeline.features["tuned"].model == str(tmp_path / "run" / "finetuned" / "ft")
    assert pipeline.systems == ["one", "two", "ft"]
    assert pipeline.finetuned["ft"].model == pipeline.features["tuned"].model


def test_the_stack_may_name_a_model(tmp_path):
    path = tmp_path / "p.yaml"
    text = PIPELINE.replace("stack: {", "stack: {heads: [one, ft], ")
    path.write_text(f"{text}finetune:\n  ft: {{model: wavlm-large}}\n")
    assert Pipeline.load(path).stack.heads == ("one", "ft")
    path.write_text(text)
    with pytest.raises(UserError, match=r"stack\.heads: there is no head 'ft'"):
        Pipeline.load(path)


def test_the_entries_of_the_page_are_valid(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "finetune.md").read_text()
    (match,) = re.findall(r"<!-- test: entries -->\n```yaml\n(.*?)```", page, re.S)
    path = tmp_path / "mine.yaml"
    path.write_text(f"corpus: {{manifest: m.csv}}\ncache: c\nrun: runs/mine\n{match}")
    pipeline = Pipeline.load(path)
    assert [c.kind for c in pipeline.finetune.values()] == ["speech", "text", "whisper"]
    assert pipeline.finetune["whisper-lora"].lora.layers == 16
    assert pipeline.features["tuned"].model == str(tmp_path / "runs/mine/finetuned/wavlm")


def test_the_preset_of_the_comparison_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("RAVDESS", "/data/ravdess")
    monkeypatch.setenv("WHISPER_TINY_EN", "openai/whisper-tiny.en")
    path = tmp_path / "p.yaml"
    path.write_text(preset("ravdess-finetune"))
    pipeline = Pipeline.load(path)
    assert pipeline.systems == ["frozen", "frozen-attributes", "full", "lora", "full-attributes"]
    heads = [pipeline.heads["frozen"], pipeline.finetune["lora"].training]
    one, other = (h.model_dump(exclude={"features", "clip"}) for h in heads)
    assert one == other  # what is compared is the encoder alone


def test_the_baselines_are_as_published(tmp_path, monkeypatch):
    monkeypatch.setenv("MSP_PODCAST", "/data/msp")
    for name in ("categorical", "attributes"):
        path = tmp_path / "presets" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(preset(f"baseline-{name}"))
        for config in Pipeline.load(path).finetune.values():
            parsed = config.training
            assert (config.model, config.optimizer) == ("wavlm-large", "adam")
            assert (parsed.epochs, parsed.batch * parsed.accumulate, parsed.lr) == (30, 32, 1e-5)
            assert (parsed.schedule, parsed.weight_decay) == ("constant", 0.0)
            assert (parsed.architecture.hidden, parsed.architecture.dropout) == (1024, 0.5)
            losses = [use.name for use in parsed.loss]
            assert losses == (["wce"] if name == "categorical" else ["ccc"])
            assert len(parsed.attributes) == (3 if name == "categorical" else 1)
