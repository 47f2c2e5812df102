"""The files: which there are, that each is right, and that the root's pipeline.yaml is one."""

import re
from pathlib import Path

import pytest
import yaml

from ser.corpus.errors import UserError
from ser.presets import DESCRIPTIONS, PUBLISHED, names, preset, variables, written
from ser.smoke.catalogue import load

ROOT = Path(__file__).parents[2]
SMALL = {"demo", "emodb-tiny", "ravdess-heads", "ravdess-tiny"}
OURS = [name for name in PUBLISHED if not name.startswith(("baseline", "unicamp"))]


def test_every_published_system_has_a_file_and_comes_first():
    assert names()[: len(PUBLISHED)] == list(PUBLISHED)
    assert set(names()) == set(DESCRIPTIONS)
    assert set(names()) == {path.stem for path in (ROOT / "presets").glob("*.yaml")}
    assert set(names()) >= SMALL


@pytest.mark.parametrize("name", names())
def test_every_preset_is_right(name):
    pipeline = load(name)
    assert pipeline.systems
    assert pipeline.stack.heads is None or set(pipeline.stack.heads) <= set(pipeline.systems)


def test_the_roots_pipeline_is_the_unicamp_preset():
    assert written("unicamp") == (ROOT / "pipeline.yaml").read_text()


def test_a_written_file_is_one_folder_up_and_contains_its_name():
    text = written("sail-categorical", "own.yaml")
    assert "../" not in text
    assert "model: runs/sail-categorical/finetuned/whisper," in text
    assert "ser run --pipeline own.yaml" in written("ravdess-tiny", "own.yaml")


def test_a_preset_that_is_not_there():
    with pytest.raises(UserError) as error:
        preset("unicmap")
    assert str(error.value) == "there is no preset 'unicmap'; did you mean 'unicamp'?"
    with pytest.raises(UserError) as error:
        preset("../pyproject")
    assert str(error.value) == "there is no preset '../pyproject'; `ser presets` lists them."


def test_variables_are_named_once():
    assert variables("a: ${B}\nc: ${A}/${B}") == ["B", "A"]
    assert variables(preset("unicamp")) == ["MSP_PODCAST"]


@pytest.mark.parametrize("name", OURS)
def test_the_header_of_a_preset_names_its_sources(name):
    head = preset(name).partition("\ncorpus:")[0]
    text = " ".join(line.lstrip("# ") for line in head.splitlines())
    for score in re.findall(r"0\.\d+", PUBLISHED[name]):
        assert score in text
    assert "Not verified: " in text
    assert "Deviations:" in text
    # which leaves out the one and is older than the other
    assert "overview  Naini et al. 2025" in text or name in ("ufg", "msp-podcast-soft")


@pytest.mark.parametrize("name", [*OURS, "unicamp"])
def test_every_value_has_its_source(name):
    assert unsourced(preset(name).partition("\nrun: ")[2].partition("\n")[2]) == []


def test_a_value_without_a_source_is_found():
    body = "heads:\n  # ours\n  a: {lr: 1}\nstack:\n  model: majority\n  folds: 5   # code\n"
    assert unsourced(body) == ["  model: majority"]


SOURCE = re.compile(r"# .*(paper|code|overview|ours|as above|notes|\[[PCN][] ])")
PLAIN = re.compile(
    r" *(kind: \w+|of: \w+|- .*|features: \[.*\]|.*:)"
)  # our words, and what they hold


def unsourced(body):
    """Return the lines that set a value with no source beside it, nor above it in its block."""
    found, covered = [], []  # the indents of comments that still hold
    for line in filter(str.strip, body.splitlines()):
        indent = len(line) - len(line.lstrip())
        comment = line.strip().startswith("#")
        covered = [at for at in covered if at <= indent]
        value = re.sub(r"\s+#.*", "", line)
        if SOURCE.search(line):
            opens = value.endswith(":")  # what a block's own line says holds within it
            covered += [indent] if comment else [indent + 1] if opens else []
        elif not comment and not covered and not PLAIN.fullmatch(value):
            found.append(line)
    return found


FACTS = yaml.safe_load((Path(__file__).parent / "facts.yaml").read_text())


def test_every_published_system_has_facts():
    assert set(FACTS) == set(PUBLISHED)


@pytest.mark.parametrize("preset_name", FACTS)
def test_values_are_those_of_the_source(preset_name):
    pipeline = load(preset_name)
    wrong = {}
    for source, facts in FACTS[preset_name].items():
        for place, value in facts.items():
            actual = value_at(pipeline, place)
            if actual != value:
                wrong[place] = f"{actual}, not {value} ({source})"
    assert wrong == {}


def value_at(pipeline, place):
    """Return the value at a dotted place as YAML has it; of `heads.*` the one that all share."""
    first, _, rest = place.partition(".*.")
    if rest:
        parts = value_at(pipeline, first)
        values = {repr(value_at(part, rest)): value_at(part, rest) for part in parts.values()}
        assert len(values) == 1, f"{place}: {sorted(values)}"
        return next(iter(values.values()))
    for key in place.split("."):
        if isinstance(pipeline, dict):
            pipeline = pipeline[key]
        else:
            pipeline = pipeline[int(key)] if key.isdigit() else getattr(pipeline, key)
    if isinstance(pipeline, tuple | frozenset):
        return [getattr(value, "name", value) for value in pipeline]
    return pipeline


def test_a_wrong_fact_is_found():
    pipeline = load("unicamp")
    assert value_at(pipeline, "heads.*.lr") == 1e-5
    with pytest.raises(AssertionError, match=r"heads\.\*\.epochs: \['20', '30'\]"):
        value_at(pipeline, "heads.*.epochs")


def test_ntua_is_as_its_code_has_it():
    pipeline = load("ntua-medusa")
    assert len(pipeline.heads) == 14
    for config in pipeline.heads.values():
        first, second = config.stages
        assert (first.epochs, first.lr, first.sampler.name) == (4, 1e-5, "natural")
        assert (second.epochs, second.lr, second.sampler.no_consensus) == (46, 1e-6, 0.125)
        assert [(use.name, use.weight) for use in first.loss] == [("soft_ce", 1.5), ("mse", 0.4)]
        assert [s.loss[0].class_weight_power for s in (first, second)] == [0.5, 0.0]
        assert 2 <= len(config.features) <= 3
    assert (pipeline.stack.model, pipeline.stack.draws) == ("meta_soup", 6)


def test_abhinaya_and_sail_are_fine_tuned_as_published():
    wavlm, llama = load("abhinaya").finetune.values()
    assert (wavlm.freeze, wavlm.crop, wavlm.training.batch) == (("feature_encoder",), 10, 16)
    assert (llama.lora.rank, llama.lora.alpha, llama.lora.dropout) == (8, 32, 0.1)
    assert llama.training.betas == (0.9, 0.99)
    sail = load("sail-categorical")
    assert sail.finetune["whisper"].lora.targets == ("fc1", "fc2")
    assert sail.finetune["wavlm"].layer == "all"
    assert sail.features["tuned"].model == str((sail.run / "finetuned/whisper").resolve())


def test_the_heads_of_unicamp_are_in_the_order_of_the_notebook_that_stacks_them():
    plain = ["hubert-roberta", "whisper-roberta", "wavlm-roberta", "whisper-deberta"]
    ranking = ["hubert-roberta", "whisper-deberta", "whisper-roberta", "wavlm-roberta"]
    both = ["hubert-whisper", "whisper-roberta-ns3"]
    names = [f"{name}-wce" for name in plain + both]
    assert list(load("unicamp").heads) == names + [f"{name}-wce-sml" for name in ranking + both]


def test_the_twelve_configurations_of_ufg_differ_as_published():
    heads = {int(name.removeprefix("eval-")): config for name, config in load("ufg").heads.items()}
    assert list(heads) == list(range(1, 13))
    focal = [n for n, config in heads.items() if config.loss[0].name == "focal"]
    plain = [n for n, c in heads.items() if c.loss[0].name == "ce" or unweighted_focal(c.loss[0])]
    balanced = [n for n, config in heads.items() if config.sampler.name == "class_balanced"]
    wavlm = [n for n, config in heads.items() if config.feature_names[0] == "wavlm"]
    assert (focal, plain) == ([6, 7, 8, 9, 10, 12], [1, 6])
    assert (balanced, wavlm) == ([3, 4, 5, 8, 9, 10], [11, 12])
    moving = {n: weights for n in balanced if (weights := heads[n].sampler.weights) != "constant"}
    uniform, distribution = "to_uniform", "to_distribution"
    assert moving == {4: uniform, 5: distribution, 9: uniform, 10: distribution}


def unweighted_focal(loss):
    return loss.name == "focal" and loss.class_weight_power == 0
