import json
import shutil
from types import SimpleNamespace

import pytest
import soundfile

import ser
from ser.packing.card import _class_scores
from ser.score.scores import read_metrics
from ser.serve.description import UNSCORED, _errors, _errors_of_card, describe
from ser.serve.page import EXAMPLE
from tests.score.factories import entry


@pytest.fixture
def run(small, tmp_path):
    """Return a copy of the run, to change."""
    return shutil.copytree(small.run, tmp_path / "small")


def test_a_run_is_described_by_its_pipeline_manifest_and_metrics(small):
    described = describe(small.p)
    assert described["Model"] == (
        "3 emotions (angry, sad, neutral) and arousal, valence, dominance, predicted by mean "
        "logits over 2 heads from prosody, words, text."
    )
    assert described["Training data"] == "m, 9 training utterances of 2 speakers."
    numbers = json.loads((small.run / "report" / "metrics.json").read_text())["test"]["stack"]
    wrong = f"{100 - 100 * numbers['accuracy']:.0f}\N{NO-BREAK SPACE}%"
    assert numbers["speakers"] == 2  # too few for intervals
    assert described["Errors"].startswith(
        f"{wrong} of {numbers['n']} test utterances of {numbers['speakers']} speakers are "
        f"misclassified (macro-F1 {numbers['macro_f1']:.3f}). Recall is "
        "highest for "
    )
    mean = numbers["attributes"]["mean"]["ccc"]
    assert f"Attributes have a mean CCC of {mean:.3f} on test." in described["Errors"]


def test_a_head_alone_has_its_own_scores(small, run):
    head = describe(ser.load(run, "cpu", "gru"))
    assert "predicted by the head gru from" in head["Model"]
    numbers = json.loads((run / "report" / "metrics.json").read_text())["test"]["gru"]
    assert f"(macro-F1 {numbers['macro_f1']:.3f}). " in head["Errors"]


def test_scores_of_another_stack_are_not_shown(small, run):
    unknown = "Unknown: the model has not been scored (run `ser score`)."
    file = run / "report" / "predictions.csv"
    rows = file.read_text().splitlines()
    file.write_text("\n".join([rows[0], *(row.replace(",sad,", ",angry,") for row in rows[1:])]))
    changed = file.read_text().splitlines() != rows
    assert changed
    assert describe(ser.load(run, "cpu"))["Errors"] == unknown
    shutil.rmtree(run / "report")
    assert describe(ser.load(run, "cpu"))["Errors"] == unknown


def test_the_scores_of_a_bundle_are_read_from_its_card(small):
    path = small.run / "report" / "metrics.json"
    scores = read_metrics(path)["test"]["stack"]
    numbers = json.loads(path.read_text())["test"]["stack"]
    card = "\n\n".join(_class_scores({"stack": scores, "gru": scores}, scores))
    wrong, f1 = 100 - 100 * numbers["accuracy"], 100 * numbers["macro_f1"]
    assert _errors_of_card(card, "stack") == (
        f"{wrong:.0f} % of {numbers['n']} utterances are misclassified (macro-F1 {f1:.1f} %); see "
        "the model card."
    )
    assert _errors_of_card(card, "other") == "See the model card."


@pytest.mark.parametrize(
    "cells",
    [
        "20 | 99.9 | 99.9 | 99999",
        "20 | 1.2.3 | 50.0 | 50.0",
        "20 | 50.0 | 50.0 | ...",
        "20 | 100.5 | 50.0 | 50.0",
        "20 | 50.0 |  | 50.0",
        f"{'9' * 100_000} | 50.0 | 50.0 | 50.0",
        "0 | 50.0 | 50.0 | 50.0",
        f"20 | {'1' * 30_000} | {'1' * 30_000} | {'1' * 30_000}x",
        "",
    ],
)
def test_a_card_with_impossible_scores_is_only_referred_to(cells):
    assert _errors_of_card(f"| stack | {cells} |\n", "stack") == "See the model card."


def test_damaged_scores_are_unknown(tmp_path):
    scores = entry(
        **{"n": 4, "accuracy": 0.75, "macro_f1": 0.7, "per_class": {"a": 0.8, "b": 0.6}},
        **{"confusion": [[2, 0], [1, 1]], "interval": {"macro_f1": [0.5, 0.9]}},
    )
    p = SimpleNamespace(run=tmp_path, stack=None, heads=["gru"], evaluation=None)
    file = tmp_path / "report" / "metrics.json"
    file.parent.mkdir()

    def errors(system) -> str:
        file.write_text(json.dumps({"test": system}))
        return _errors(p)

    assert errors({"gru": scores}).startswith(
        "25\N{NO-BREAK SPACE}% of 4 test utterances are misclassified "
        "(macro-F1 0.700 [0.500, 0.900])"
    )
    earlier = errors({"gru": scores | {"clusters": 3}})  # of a version that gave intervals to three
    assert "of 4 test utterances of 3 speakers are misclassified (macro-F1 0.700)." in earlier
    unknown = "Unknown: the scores are not readable (run `ser score` again)."
    for name in ("n", "accuracy", "per_class", "confusion", "interval"):
        assert errors({"gru": {k: v for k, v in scores.items() if k != name}}) == unknown
        assert errors({"gru": {**scores, name: None}}) == unknown
    for changed in (
        {"confusion": [[0, 0], [0, 0]]},
        {"confusion": [[2], [1]]},
        {"confusion": [[2, 0]]},
        {"accuracy": 99999},
        {"interval": {"macro_f1": [0.5]}},
        {"attributes": {"mean": {"ccc": None}}},
        {"attributes": 5},
    ):
        assert errors({"gru": {**scores, **changed}}) == unknown
    assert errors(5) == errors({"gru": None}) == unknown
    (tmp_path / "stack").mkdir()
    for place in ("report/predictions.csv", "stack/predictions.parquet"):
        (tmp_path / place).write_text("damaged")
    p.stack = "mean_logits"
    assert errors({"stack": scores}) == UNSCORED  # nothing shows of which stack the scores are
    p.stack = None
    assert errors({"gru": {}}) == UNSCORED


def test_the_example_is_a_short_clip_of_speech():
    clip = soundfile.info(EXAMPLE)
    assert 1 < clip.duration < 5
    assert EXAMPLE.stat().st_size < 30_000
