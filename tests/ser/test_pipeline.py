"""pipeline.yaml: what is right is understood, what is wrong is one sentence with its line."""

from pathlib import Path

import pytest

from corpus.errors import UserError
from presets import preset
from ser.pipeline import Pipeline, write_resolved
from tests.ser.factories import PIPELINE


def load(folder, text=PIPELINE, *overrides):
    path = folder / "pipeline.yaml"
    path.write_text(text)
    return Pipeline.load(path, overrides)


def test_paths_are_relative_to_the_file_and_defaults_are_merged(tmp_path):
    pipeline = load(tmp_path)
    assert pipeline.corpus.manifest == tmp_path / "m.csv"
    assert pipeline.corpus.audio == tmp_path / "audio"
    assert (pipeline.cache, pipeline.run) == (tmp_path / "cache", tmp_path / "run")
    assert list(pipeline.heads) == ["one", "two"]
    assert pipeline.heads["one"].architecture.hidden == 8
    assert pipeline.heads["one"].features[0].stride == 8


def test_set_overrides_and_makes_sections(tmp_path):
    pipeline = load(tmp_path, PIPELINE, "heads.two.epochs=7", "score.bootstrap=3")
    assert pipeline.heads["two"].epochs == 7
    assert pipeline.heads["one"].epochs == 2
    assert pipeline.score.bootstrap == 3


def test_the_environment_is_expanded(tmp_path, monkeypatch):
    text = PIPELINE.replace("audio: audio", 'audio: "${CLIPS}/x"')
    monkeypatch.setenv("CLIPS", "/data")
    assert load(tmp_path, text).corpus.audio == Path("/data/x")
    monkeypatch.delenv("CLIPS")
    with pytest.raises(UserError) as error:
        load(tmp_path, text)
    assert str(error.value) == (
        f"{tmp_path}/pipeline.yaml:1: corpus.audio: ${{CLIPS}} is not set; export CLIPS=…"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("score:", "scores:", None),
        ("cache: cache", "cahce: cache", ":2: cahce: unknown key; did you mean 'cache'?"),
        (
            "hidden: 8, epochs: 2",
            "hidden: 8, epoch: 2",
            ":7: heads.defaults.epoch: unknown key; did you mean 'epochs'?",
        ),
        (
            "{kind: prosody}",
            "{kind: prosdy}",
            ":5: features.prosody: features: the kind 'prosdy' is unknown; did you mean 'prosody'?",
        ),
        (
            "{kind: prosody}",
            "{kind: prosody, presicion: float32}",
            ":5: features.prosody.presicion: unknown key; did you mean 'precision'?",
        ),
        (
            "{kind: prosody}",
            "{kind: whisper, model: whisper-tiny.en, layer: last}",
            ":5: features.prosody.layer: a layer is an index, 'mean:-4:', 'sum:-4:' (any slice) or "
            "'all'; correct the value.",
        ),
        (
            "[prosody], loss",
            "[prosodi], loss",
            ":9: heads.two.features: 'prosodi' is not extracted by anything under features; did "
            "you mean 'prosody'?",
        ),
        (
            "model: mean_logits",
            "model: mean_logit",
            ":10: stack.model: Input should be 'random_forest', ",
        ),
        (
            "{model: mean_logits}",
            "{model: mean_logits, heads: [three]}",
            ":10: stack.heads: there is no head 'three'; known are one, two.",
        ),
        (
            "cache: cache\n",
            "",
            ": cache: the section is missing; add it.",
        ),
        (
            "cache: cache\n",
            "cache: cache\ncache: other\n",
            ":3: 'cache' stands twice; keep one of them.",
        ),
        (
            "  one: {features",
            "  o/ne: {features",
            ":8: heads.o/ne: use letters, digits, '-', '_' and '.' only, and not 'stack'.",
        ),
        (
            "loss: [wce, sml]",
            "loss: [wce, {name: focal, gama: 3}]",
            ":9: heads.two.loss[1].gama: unknown key; did you mean 'gamma'?",
        ),
        (
            "loss: [wce, sml]",
            "loss: [{name: ce, zeta: 1}]",
            ":9: heads.two.loss[0].zeta: unknown key; valid are name, weight, class_weight_power.",
        ),
        (
            "loss: [wce, sml]",
            "loss: [wcee, sml]",
            ":9: heads.two.loss[0]: the loss 'wcee' is unknown; did you mean 'wce'?",
        ),
        (
            "loss: [wce, sml]",
            "phases: [{epochs: 2, loss: [{name: vs, tao: 1}]}]",
            ":9: heads.two.phases[0].loss[0].tao: unknown key; did you mean 'tau'?",
        ),
        (
            "stride: 8",
            "strides: 8",
            ":8: heads.one.features[0].strides: unknown key; did you mean 'stride'?",
        ),
        (
            "{model: mean_logits}",
            "{random_forest: {depth: 3}}",
            ":10: stack.random_forest.depth: unknown key; did you mean 'max_depth'?",
        ),
        (
            "hidden: 8,",
            "attention_heads: {prosody: 0},",
            ":8: heads.one.attention_heads: Input should be a valid integer; correct the value.",
        ),
        (
            "{model: mean_logits}",
            "{model: mean_logits, heads: [two], folds: one}",
            ":10: stack.folds: Input should be a valid integer, unable to parse string as an "
            "integer; correct the value.",
        ),
        ("run: run", "run: [run", ":4: not valid YAML"),
        ("manifest: m.csv, ", "", ":1: corpus.manifest: it is missing; give it a value."),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(tmp_path, old, new, message):
    text = PIPELINE.replace(old, new)
    if message is None:
        assert load(tmp_path, text).score.bootstrap == 100
        return
    with pytest.raises(UserError) as error:
        load(tmp_path, text)
    said = str(error.value)
    assert said.startswith(f"{tmp_path}/pipeline.yaml{message}")
    assert "\n" not in said


def test_text_of_nothing_is_named(tmp_path):
    text = PIPELINE.replace("prosody: {kind: prosody}", "t: {kind: text, model: minilm, of: asr}")
    with pytest.raises(UserError, match="'asr' is no feature of kind asr; known are transcript"):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.yaml: there is no such file"):
        Pipeline.load(tmp_path / "nowhere.yaml")


def test_the_root_pipeline_is_the_published_system(monkeypatch):
    monkeypatch.setenv("MSP_PODCAST", "/data/IS2025")
    pipeline = Pipeline.load(Path(__file__).parents[2] / "pipeline.yaml")
    heads = pipeline.heads
    assert len(heads) == 12
    assert sum(len(h.features) == 3 for h in heads.values()) == 2
    assert sum([use.name for use in h.loss] == ["wce", "sml"] for h in heads.values()) == 6
    for head in heads.values():
        sml = len(head.loss) == 2
        assert head.sampler.name == ("neutral_expressive" if sml else "natural")
        assert (head.lr, head.lr_min, head.batch, head.schedule) == (1e-5, 1e-6, 64, "cosine")
        assert (head.weight_decay, head.seed) == (1e-6, 7)
        assert 20 <= head.epochs <= 30
        assert (head.architecture.hidden, head.architecture.dropout) == (512, 0.5)
    used = {f for h in heads.values() for f in h.feature_names}
    assert used == {"whisper", "hubert", "wavlm", "roberta", "deberta", "prosody"}
    assert pipeline.corpus.classes[-1] == "neutral"
    forest = pipeline.stack.random_forest
    assert (forest.trees, forest.max_depth) == (200, 8)
    assert (forest.min_samples_leaf, forest.min_samples_split) == (10, 10)
    assert (pipeline.stack.folds, pipeline.stack.balance, pipeline.score.bootstrap) == (
        5,
        True,
        100,
    )


@pytest.mark.parametrize("name", ["demo", "ravdess-tiny"])
def test_presets_load(tmp_path, monkeypatch, name):
    monkeypatch.setenv("RAVDESS", "/data/ravdess")
    pipeline = load(tmp_path, preset(name))
    assert len(pipeline.heads) >= 4


def test_a_resolved_pipeline_is_the_same_from_anywhere(tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "my_plugin.py").write_text("")
    text = PIPELINE.replace(
        "  prosody:", "  frames: {kind: whisper, model: models/mine}\n  prosody:"
    ).replace("one: {", "one: {init: start.safetensors, ")
    pipeline = load(tmp_path, f"plugins: [my_plugin]\n{text}")
    write_resolved(pipeline)
    resolved = Pipeline.load(tmp_path / "run" / "pipeline.yaml")
    for field in ("corpus", "cache", "run", "features", "heads", "stack", "score", "plugins"):
        assert getattr(resolved, field) == getattr(pipeline, field), field
    assert resolved.features["frames"].model == str(tmp_path / "models" / "mine")
    assert resolved.heads["one"].init == tmp_path / "start.safetensors"
    assert resolved.plugins == (str(tmp_path / "my_plugin"),)
