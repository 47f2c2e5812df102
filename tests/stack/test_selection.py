import json

import numpy as np
import polars as pl
import pytest

from ser.cache.logits import HeadLogits
from ser.stack.classifier import table_of
from ser.stack.config import StackConfig
from ser.stack.model import FittedStack
from ser.stack.run import fit, is_current, predict
from ser.stack.scorer import Scorer
from ser.stack.selection import CANDIDATES, PREFERRED, RESAMPLES, RULES, _score, select

SMALL = StackConfig(folds=3, random_forest={"trees": 5})


def table(noises, rows=240, speakers=12, seed=0, groups=True):
    """Return heads of some noises as a table; the labels are three classes in turn."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    heads = [2 * np.eye(3)[y] + noise * rng.normal(size=(rows, 3)) for noise in noises]
    speaker = [f"s{i // 3 % speakers}" for i in range(rows)] if groups else None
    return table_of(np.concatenate(heads, axis=1), y, speaker, SMALL)


def chosen(noises, config=SMALL, **options):
    resolved, candidates = select(table(noises, **options), config)
    assert [c.model for c in candidates if c.chosen] == ([resolved.model] if candidates else [])
    return resolved.model, {c.model: c.macro_f1 for c in candidates}


def test_what_is_chosen_is_never_clearly_below_the_best_head():
    model, scores = chosen([1.5, 1.5, 1.5])
    assert tuple(scores) == CANDIDATES
    assert scores[model] > scores["best_head"] + 0.05
    model, scores = chosen([1, 30, 30])
    assert scores[model] > scores["mean_logits"] + 0.2
    assert scores[model] >= scores["best_head"] - 0.01


def test_a_head_that_swaps_two_classes_needs_a_model_that_learns():
    logits = table([1.5, 1.5])
    rows = logits.splits["train"].logits
    rows[:, [0, 1, 3, 4]] = rows[:, [1, 0, 4, 3]]
    model = select(logits, SMALL)[0].model
    assert model in ("logistic", "random_forest")


def test_the_margin_is_paired_over_speakers():
    y, speakers = np.arange(60) % 2, [f"s{i // 2 % 10}" for i in range(60)]
    weighted, other = y.copy(), y.copy()
    scorer = Scorer(y, speakers, 2, RESAMPLES, 42)
    weighted[:20] = 0  # one row of every speaker is wrong: a difference without an error
    (first, second) = _score({PREFERRED: weighted, "other": other}, scorer)
    assert (first.chosen, first.error, second.chosen) == (False, 0, True)
    assert second.macro_f1 == 1
    weighted, other[:2] = y.copy(), 0
    weighted[2:6] = 0  # 3 rows against 1 are noise
    (first, second) = _score({PREFERRED: weighted, "other": other}, scorer)
    assert second.macro_f1 > first.macro_f1 and first.chosen and second.error > 0


def test_without_out_of_fold_logits_the_mean_is_taken():
    assert chosen([1, 30], groups=False) == ("mean_logits", {})
    assert chosen([1, 30], SMALL.model_copy(update={"protocol": "unicamp"})) == ("mean_logits", {})
    assert chosen([1]) == ("mean_logits", {})  # a single head


@pytest.mark.parametrize(("rows", "speakers"), [(240, 1), (3, 3)])
def test_too_few_speakers_or_rows_are_no_evidence(rows, speakers):
    assert chosen([1, 30], rows=rows, speakers=speakers) == ("mean_logits", {})


def test_few_speakers_get_fewer_folds():
    resolved, candidates = select(table([1, 2], speakers=2), SMALL)
    assert resolved.folds == 2 and len(candidates) == len(CANDIDATES)


def test_a_class_of_few_rows_leaves_out_the_models_with_members(write_run):
    logits = table([1, 2])
    rows = logits.splits["train"]
    rows.label[:] = np.where(np.arange(240) < 2, 2, np.arange(240) % 2)
    _, candidates = select(logits, SMALL)
    assert [c.model for c in candidates] == list(RULES)


def test_the_fitted_stack_is_the_chosen_model_and_the_choice_is_recorded(write_run):
    run = write_run(kind="out-of-fold", sizes={"train": 120, "dev": 30}, speakers=6)
    record = fit(run, ["a", "b"], SMALL)
    assert [c.model for c in record.candidates] == list(CANDIDATES)
    (model,) = (c.model for c in record.candidates if c.chosen)
    written = json.loads((run / "stack" / "stack.json").read_text())
    assert written["config"]["model"] == model
    assert len(written["candidates"]) == len(CANDIDATES)
    assert is_current(run, ["a", "b"], SMALL)
    assert not is_current(run, ["a", "b"], SMALL.model_copy(update={"model": model}))
    saved = pl.read_parquet(run / "stack" / "predictions.parquet")
    assert predict(run).filter(pl.col("split") != "train").equals(saved)
    fit(run, ["a", "b"], SMALL.model_copy(update={"model": model}))
    assert pl.read_parquet(run / "stack" / "predictions.parquet").equals(saved)


def test_heads_that_are_not_cross_fitted_are_averaged_without_a_word(write_run):
    run = write_run(kind="in-sample")
    record = fit(run, ["a", "b"], SMALL)
    assert (record.config["model"], record.candidates) == ("mean_logits", [])
    heads = [HeadLogits.read(run / "heads" / h / "logits.h5").splits["dev"].logits for h in "ab"]
    dev = predict(run).filter(pl.col("split") == "dev")["prediction"].to_list()
    first = np.mean(heads, axis=0).argmax(axis=1)
    assert dev == [("angry", "sad", "happy")[i] for i in first]


def test_the_offsets_of_a_stack_are_saved_and_applied(write_run):
    run = write_run(kind="out-of-fold", sizes={"train": 400, "dev": 60}, speakers=8)
    config = StackConfig(model="mean_logits", offsets=True, calibrate=True)
    record = fit(run, ["a", "b"], config)
    assert len(record.offsets) == 3
    saved = pl.read_parquet(run / "stack" / "predictions.parquet")
    assert predict(run).filter(pl.col("split") != "train").equals(saved)


def test_offsets_move_the_prediction_before_the_temperature(write_run):
    stack = FittedStack(StackConfig(model="mean_proba", offsets=True), "oof")
    from ser.stack.rules import MeanProba

    stack.classifier, stack.offsets = MeanProba(2).fit(), np.log([1.0, 3.0])
    X = np.log(np.array([[0.6, 0.4]]))
    predicted, probability = stack.classify(X)
    assert predicted.tolist() == [1]
    assert probability[0] == pytest.approx([1 / 3, 2 / 3])
    stack.temperature = 2.0
    predicted, probability = stack.classify(X)
    assert predicted.tolist() == [1]
    assert probability[0, 1] / probability[0, 0] == pytest.approx(2**0.5)
