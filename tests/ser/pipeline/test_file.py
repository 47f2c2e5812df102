"""pipeline.yaml: what is right is understood, what is wrong is one sentence with its line."""

import sys
from pathlib import Path

import pytest

from ser.corpus.errors import UserError
from ser.pipeline.file import Pipeline, cache_place, read_manifest, write_resolved
from ser.presets import preset
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
    monkeypatch.delenv("CLIPS")  # only stages that read audio need its folder
    unset = load(tmp_path, text)
    assert unset.corpus.audio == Path("${CLIPS}/x")
    assert unset.resolved()["corpus"]["audio"] == "${CLIPS}/x"
    with pytest.raises(UserError) as error:
        load(tmp_path, PIPELINE.replace("run: run", 'run: "${CLIPS}"'))
    assert str(error.value) == (
        f"{tmp_path}/pipeline.yaml:3: run: ${{CLIPS}} is not set; export CLIPS=…"
    )
    text = PIPELINE.replace("cache: cache", 'cache: "${CLIPS}"').replace("m.csv", '"${CLIPS}.csv"')
    unset = load(tmp_path, text)  # neither does the stack need a cache or a manifest
    for use, key in ((cache_place, "cache"), (read_manifest, "corpus.manifest")):
        with pytest.raises(UserError) as error:
            use(unset)
        assert str(error.value) == f"{key}: ${{CLIPS}} is not set; export CLIPS=…"


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
            ":9: heads.two.features: 'prosodi' is not a feature with frames under features; did "
            "you mean 'prosody'?",
        ),
        (
            "model: mean_logits",
            "model: mean_logit",
            ":10: stack.model: the meta-model 'mean_logit' is unknown; did ",
        ),
        (
            "{model: mean_logits}",
            "{model: mean_logits, heads: [three]}",
            ":10: stack.heads: there is no head 'three'; choose from one, two.",
        ),
        (
            "cache: cache\n",
            "",
            ": cache: this section is missing; add it.",
        ),
        (
            "cache: cache\n",
            "cache: cache\ncache: other\n",
            ":3: 'cache' appears twice; keep one of them.",
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
            ":9: heads.two.loss[0].zeta: unknown key; choose from name, weight, class_weight",
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
            ":8: heads.one.attention_heads: it must be a valid integer; correct the value.",
        ),
        (
            "{model: mean_logits}",
            "{model: mean_logits, heads: [two], folds: one}",
            ":10: stack.folds: it must be a valid integer; correct the value.",
        ),
        ("run: run", "run: [run", ":4: not valid YAML"),
        (
            "classes: [angry, sad, neutral]",
            "classes: [sad]",
            ":1: corpus.classes: it must have at least 2 entries; add what is missing.",
        ),
        ("manifest: m.csv, ", "", ":1: corpus.manifest: the value is missing; give one."),
    ],
)
def test_a_mistake_is_reported_in_one_sentence_with_its_line(tmp_path, old, new, message):
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
    with pytest.raises(
        UserError, match="'asr' is not a feature with transcripts; choose from transcript"
    ):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.yaml: there is no such file"):
        Pipeline.load(tmp_path / "nowhere.yaml")


def test_the_root_pipeline_is_the_published_system(monkeypatch):
    monkeypatch.setenv("MSP_PODCAST", "/data/IS2025")
    pipeline = Pipeline.load(Path(__file__).parents[3] / "pipeline.yaml")
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


def test_variables_of_a_file_from_elsewhere_stay_as_they_are(tmp_path, monkeypatch):
    path = tmp_path / "pipeline.yaml"
    monkeypatch.setenv("CLIPS", "/data")
    for written in ('"${CLIPS}/x"', '"\\x24{CLIPS}/x"', '"$\\\n    {CLIPS}/x"'):
        path.write_text(PIPELINE.replace("audio: audio", f"audio: {written}"))
        assert Pipeline.load(path).corpus.audio == Path("/data/x")
        assert Pipeline.load(path, expand=False).raw["corpus"]["audio"] == "${CLIPS}/x"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cache: cache", "cache:", ":2: cache: it must be a path; give it as text."),
        ("cache: cache", "cache: 5", ":2: cache: it must be a path; give it as text."),
        ("cache: cache", "cache: [a]", ":2: cache: it must be a path; give it as text."),
        ("cache: cache", "cache: ''", ":2: cache: the path is empty; give one."),
        (
            "cache: cache",
            "cache: s3://me:secret@b/c",
            ":2: cache: s3://…: a URL may have no user name, password or query",
        ),
        ("cache: cache", "cache: zip://a", ":2: cache: zip://a: a cache cannot be kept in zip://;"),
        ("cache: cache", "cache: s3:/me:secret@b", ":2: cache: s3:…: it is neither a folder nor"),
        ("cache: cache", "cache: S3:me:secret@b", ":2: cache: S3:…: it is neither a folder nor"),
        ("cache: cache", "cache: odd:/me:secret@b", ":2: cache: odd:…: it is neither a folder nor"),
        ("cache: cache", "cache: 'data:,x'", ":2: cache: data:…: it is neither a folder nor the"),
        ("cache: cache", "cache: memory://x", ":2: cache: memory://…: it is lost when the program"),
        ("run: run", "run: true", ":3: run: it must be a path; give it as text."),
        ("run: run", f"run: {'x' * 256}", ":3: run: no file system takes this path; shorten it."),
        ("run: run", f"run: {'x/' * 2500}", ":3: run: no file system takes this path; shorten it."),
        ("manifest: m.csv", "manifest: 5", ":1: corpus.manifest: it must be a path; give it as "),
        ("audio: audio", "audio: ''", ":1: corpus.audio: the path is empty; give one."),
        ("run: run", "run: run\nplugins: 5", ":4: plugins: it must be a list of modules, as [my_"),
        ("run: run", "run: run\nplugins: {a: b}", ":4: plugins: it must be a list of modules, as"),
        ("run: run", "run: run\nplugins: my_head", ":4: plugins: it must be a list of modules, as"),
        ("run: run", "run: run\nplugins: [5]", ":4: plugins[0]: it must be a path; give it as "),
        ("run: run", "run: run\nplugins: [x.y/..]", ":4: plugins[0]: it must be a Python module:"),
        ("run: run", "run: run\nplugins: [ser-x]", ":4: plugins[0]: it must be a Python module:"),
        ("run: run", "run: run\nplugins: [no_such]", ":4: plugins[0]: plugin 'no_such' cannot be "),
        (
            "{kind: prosody}",
            "{kind: whisper, model: 5}",
            ":5: features.prosody.model: it must be a",
        ),
        (
            "{kind: prosody}",
            "[kind, prosody]",
            ":5: features.prosody: it must be a mapping (`key: ",
        ),
        ("{kind: prosody}", "{kind: [x]}", ":5: features.prosody: features: the kind '['x']' is"),
        (
            "{model: mean_logits}",
            "[model]",
            ":10: stack: it must be a mapping (`key: value` lines).",
        ),
        ("{model: mean_logits}", "{heads: 5}", ":10: stack.heads: it must be a list; write [5]"),
        (
            "  one: {",
            f"  {'o' * 151}: {{",
            f":8: heads.{'o' * 151}: a name has at most 150 bytes; ",
        ),
        ("  one: {", "  ? [one]\n  : {", ":8: a key is a list or a mapping; write it as one word."),
    ],
)
def test_a_value_of_the_wrong_kind_is_reported_in_one_sentence_with_its_line(
    tmp_path, old, new, message
):
    assert old in PIPELINE
    with pytest.raises(UserError) as error:
        load(tmp_path, PIPELINE.replace(old, new))
    assert str(error.value).startswith(f"{tmp_path}/pipeline.yaml{message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "error", "problem"),
    [
        ("plugin_of_a_mistake", "KeyError('x')", "KeyError: 'x'"),
        (
            "plugin_of_a_sentence",
            "ser.UserError('no such table; make it.')",
            "no such table; make it",
        ),
    ],
)
def test_the_error_of_a_plugin_is_of_its_own_class(tmp_path, name, error, problem):
    file = tmp_path / f"{name}.py"
    file.write_text(f"import ser\nraise {error}\n")
    with pytest.raises(UserError) as raised:
        load(tmp_path, f"plugins: [{name}]\n{PIPELINE}")
    assert str(raised.value) == (
        f"{tmp_path}/pipeline.yaml:1: plugins[0]: plugin '{name}' raises an error when imported "
        f"({file}:2: {problem}); correct it."
    )


@pytest.mark.parametrize("value", ["", " 5", " [a]", " {}", " text"])
@pytest.mark.parametrize("section", ["corpus", "features", "heads", "stack", "score", "finetune"])
def test_a_section_of_any_kind_is_read_or_refused(tmp_path, section, value):
    try:
        load(tmp_path, PIPELINE, f"{section}={value}")
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stack=[", "--set stack=[: not valid YAML (did not find expected node content); correct"),
        ("stack", "--set stack: give it as section.key=value."),
        ("=5", "--set =5: give it as section.key=value."),
        ("stack..k=5", "--set stack..k=5: give it as section.key=value."),
        (".=5", "--set .=5: give it as section.key=value."),
        ("a." * 40 + "b=1", "--set a.a.a."),
        ("cache.a.b.c=5", "--set cache.a.b.c=5: 'cache' is a value and has no keys below it."),
        ("heads.two.loss.0=ce", "--set heads.two.loss.0=ce: 'loss' is a value and has no keys"),
        ("cache=", "--set cache=: cache: it must be a path; give it as text."),
        (
            "heads.one.epochs=x",
            "--set heads.one.epochs=x: heads.one.epochs: it must be a valid",
        ),
        ("stack.folds=" + "9" * 6000, "--set stack.folds=9999999999999"),
        ("stack.model=&a [*a]", "--set stack.model=&a [*a]: the alias *a contains itself; correct"),
        (
            "cache=s3://me:se/cret@b",
            "--set cache=s3://…@b: cache: s3://…: a URL may have no user name, password or query",
        ),
        ("cache=s3:/me:secret@b", "--set cache=s3:/…@b: cache: s3:…: it is neither a folder nor"),
        (
            "cache=s3://b?sig=cret",
            "--set cache=s3://b?…: cache: s3://…: a URL may have no user name, password or query",
        ),
        (
            "nothing.a=1",
            "--set nothing.a=1: nothing: unknown key; choose from corpus, cache, ",
        ),
    ],
)
def test_a_mistake_in_set_is_reported_in_one_sentence(tmp_path, override, message):
    with pytest.raises(UserError) as error:
        load(tmp_path, PIPELINE, override)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    assert "cret" not in str(error.value)


def test_set_fills_a_section_that_is_empty(tmp_path):
    assert (
        load(tmp_path, f"{PIPELINE}plugins:\n", "score=", "score.bootstrap=3").score.bootstrap == 3
    )


def test_a_plugin_is_announced_once_and_its_failure_is_reported_in_one_sentence(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "told_plugin.py").write_text("")
    (tmp_path / "bad_plugin.py").write_text("x = 1\nundefined\n")
    for _ in range(2):
        load(tmp_path, f"plugins: [told_plugin]\n{PIPELINE}")
    captured = capsys.readouterr()
    assert captured.err == f"ser: importing plugin told_plugin from {tmp_path} (runs its code)\n"
    assert captured.out == ""
    with pytest.raises(UserError) as error:
        load(tmp_path, f"plugins: [bad_plugin]\n{PIPELINE}")
    assert str(error.value) == (
        f"{tmp_path}/pipeline.yaml:1: plugins[0]: plugin 'bad_plugin' raises an error when "
        f"imported ({tmp_path}/bad_plugin.py:2: NameError: name 'undefined' is not defined); "
        "correct it."
    )


def test_a_solved_head_takes_only_the_defaults_that_it_has(tmp_path):
    text = PIPELINE.replace(
        "heads:\n", "heads:\n  probe: {head: linear_probe, features: [prosody], cross_fit: 3}\n"
    )
    config = load(tmp_path, text).heads["probe"]
    assert config.architecture.model_dump() == {"quantiles": ()}
    assert config.cross_fit.folds == 3
    assert [use.name for use in config.features] == ["prosody"]
    with pytest.raises(UserError, match=r"heads\.defaults\.hiden: unknown key"):
        load(tmp_path, text.replace("hidden: 8", "hiden: 8"))
    with pytest.raises(UserError, match="epochs: the head linear_probe is solved"):
        load(tmp_path, text, "heads.probe.epochs=3")
