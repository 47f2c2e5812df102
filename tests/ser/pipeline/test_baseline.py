import pytest
import yaml

from ser.corpus.errors import UserError
from ser.pipeline.file import Pipeline, write_resolved
from tests.ser.factories import PIPELINE

ON = PIPELINE.replace("heads:\n", "heads:\n  baseline: true\n")
ONE = "  one: {features: [{name: prosody, stride: 8}]}\n"
TWO = "  two: {features: [prosody], loss: [wce, sml], sampler: neutral_expressive}\n"


def load(folder, text, *overrides):
    (folder / "pipeline.yaml").write_text(text)
    return Pipeline.load(folder / "pipeline.yaml", overrides)


def with_heads(*lines):
    return ON.replace(ONE + TWO, "".join(f"  {line}\n" for line in lines))


def test_a_probe_of_what_the_heads_read_is_added(tmp_path):
    pipeline = load(tmp_path, ON)
    assert list(pipeline.heads) == ["one", "two", "baseline"]
    config = pipeline.heads["baseline"]
    assert config.head == "linear_probe"
    assert [(use.name, use.stride, use.layer) for use in config.features] == [("prosody", 1, None)]
    assert [use.name for use in config.loss] == ["wce"]
    assert pipeline.baseline == "baseline"
    assert pipeline.systems == pipeline.stacked == ["one", "two"]
    assert list(load(tmp_path, ON, "heads.baseline=false").heads) == ["one", "two"]


def test_it_is_a_system_once_it_is_trained(tmp_path):
    pipeline = load(tmp_path, ON)
    (pipeline.run / "heads/baseline").mkdir(parents=True)
    (pipeline.run / "heads/baseline/logits.h5").touch()
    assert pipeline.systems == ["one", "two", "baseline"]
    assert pipeline.stacked == ["one", "two"]


def test_it_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr("ser.pipeline.baseline.DEFAULT", True)
    assert load(tmp_path, PIPELINE).baseline == "baseline"


def test_the_copy_in_the_run_has_it_as_an_entry(tmp_path, monkeypatch):
    monkeypatch.setattr("ser.pipeline.baseline.DEFAULT", True)
    pipeline = load(tmp_path, PIPELINE)
    write_resolved(pipeline)
    path = pipeline.run / "pipeline.yaml"
    entry = yaml.safe_load(path.read_text())["heads"]["baseline"]
    assert entry == {"head": "linear_probe", "features": ["prosody"], "loss": ["wce"]}
    copy = Pipeline.load(path)
    assert copy.heads == pipeline.heads
    assert copy.stacked == ["one", "two"]
    path.write_text(path.read_text().replace("  baseline:\n", "  other:\n"))
    assert list(Pipeline.load(path).heads) == ["one", "two", "other"]  # an earlier version's run


def test_a_listed_probe_is_the_baseline_and_is_stacked(tmp_path):
    text = with_heads(
        "one: {features: [prosody]}", "mine: {head: linear_probe, features: [prosody]}"
    )
    pipeline = load(tmp_path, text)
    assert pipeline.baseline == "mine"
    assert pipeline.stacked == ["one", "mine"]


def test_the_stack_may_name_it(tmp_path):
    pipeline = load(tmp_path, ON.replace("mean_logits", "mean_logits, heads: [one, baseline]"))
    (pipeline.run / "heads/baseline").mkdir(parents=True)
    (pipeline.run / "heads/baseline/logits.h5").touch()
    assert pipeline.stacked == ["one", "two", "baseline"]


def test_a_head_of_that_name_is_what_it_is(tmp_path):
    text = PIPELINE.replace("  one:", "  baseline:")
    pipeline = load(tmp_path, text, "heads.two.head=linear_probe", "heads.two.sampler=natural")
    assert list(pipeline.heads) == ["baseline", "two"]
    assert pipeline.stacked == ["baseline", "two"]
    assert pipeline.baseline == "two"


def test_it_is_cross_fitted_and_normalised_as_all_heads_are(tmp_path):
    use = "{name: prosody, normalize: speaker}"
    text = with_heads(
        f"one: {{features: [{use}], cross_fit: 3, loss: [ccc], attributes: [valence]}}",
        f"two: {{features: [{use}], cross_fit: 3}}",
    )
    config = load(tmp_path, text).heads["baseline"]
    assert config.cross_fit.folds == 3
    assert config.features[0].normalize == "speaker"
    assert [use.name for use in config.loss] == ["wce", "mse"]
    assert config.attributes == ("valence",)
    text = with_heads(f"one: {{features: [{use}], cross_fit: 3}}", "two: {features: [prosody]}")
    config = load(tmp_path, text).heads["baseline"]
    assert (config.cross_fit, config.features[0].normalize) == (None, "none")


def test_text_is_read_where_there_is_nothing_else(tmp_path):
    features = "  words: {kind: asr, model: whisper-tiny.en}\n"
    features += "  text: {kind: text, of: words, model: minilm}\n"
    text = ON.replace("heads:\n", f"{features}heads:\n")
    spoken = text.replace("two: {features: [prosody]", "two: {features: [prosody, text]")
    assert load(tmp_path, spoken).heads["baseline"].feature_names == ["prosody"]
    written = text.replace(ONE + TWO, "  one: {features: [text]}\n")
    assert load(tmp_path, written).heads["baseline"].feature_names == ["text"]


def test_without_frames_there_is_none(tmp_path):
    text = with_heads("scores: {head: class_scores, features: [prosody], epochs: 0}")
    text = text.replace("hidden: 8, ", "")
    assert load(tmp_path, text).systems == ["scores"]
    assert load(tmp_path, text).baseline is None
    assert load(tmp_path, ON.replace(ONE + TWO, "")).systems == []


def test_a_switch_is_true_or_false(tmp_path):
    with pytest.raises(UserError, match=r"heads\.baseline: it must be a mapping"):
        load(tmp_path, ON, "heads.baseline=maybe")
