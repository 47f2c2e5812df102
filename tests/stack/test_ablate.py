import numpy as np
import pytest
from sklearn.metrics import f1_score

from ser.corpus.errors import UserError
from ser.stack.ablate import ablate
from ser.stack.config import StackConfig
from ser.stack.model import FittedStack
from ser.stack.table import LogitTable

HEADS = ["a", "b", "c"]
LOGISTIC = StackConfig(model="logistic", folds=2)
SIZES = {"train": 90, "dev": 80}


def test_a_head_is_worth_what_the_stack_loses_without_it(write_run):
    run = write_run(heads=HEADS, sizes=SIZES, speakers=6)
    left_out, _ = ablate(run / "heads", HEADS, LOGISTIC, 50)
    table = LogitTable.read(run / "heads", HEADS)
    whole = FittedStack.fit(table, LOGISTIC).predict(table.splits["dev"]).chosen
    label = table.splits["dev"].label
    rest = LogitTable.read(run / "heads", ["a", "c"])
    without = FittedStack.fit(rest, LOGISTIC).predict(rest.splits["dev"]).chosen
    row = left_out.row(1, named=True)
    scores = [f1_score(label, said, average="macro") for said in (whole, without)]
    assert row["head"] == "b"
    assert row["without"] == pytest.approx(scores[1])
    assert row["worth"] == pytest.approx(scores[0] - scores[1])
    alone = table.splits["dev"].logits[:, 3:6].argmax(axis=1)
    assert row["alone"] == pytest.approx(f1_score(label, alone, average="macro"))
    assert row["low"] <= row["worth"] <= row["high"]


def test_a_head_of_noise_is_worth_nothing_and_a_good_one_much(write_run, rewrite):
    run = write_run(heads=HEADS, sizes=SIZES, attributes=("arousal",))
    rewrite(run, "a", lambda logits: 9 * logits)
    rewrite(run, "c", lambda logits: np.random.default_rng(1).normal(size=logits.shape))
    for model in ("meta_soup", "mean_proba"):
        _, permuted = ablate(run / "heads", HEADS, LOGISTIC.model_copy(update={"model": model}), 50)
        lost = dict(permuted.select("head", "macro_f1").iter_rows())
        assert lost["a"] > 0.1
        assert abs(lost["c"]) < 0.1
        assert permuted.columns == ["head", "macro_f1", "angry", "sad", "happy"]
        classes = permuted.select("angry", "sad", "happy").mean_horizontal()
        assert classes.to_list() == pytest.approx(permuted["macro_f1"].to_list())


def test_the_same_call_twice_gives_the_same_numbers(write_run):
    run = write_run(heads=HEADS)
    first, again = (ablate(run / "heads", HEADS, LOGISTIC, 20) for _ in range(2))
    assert all(a.equals(b) for a, b in zip(first, again, strict=True))


def test_one_head_cannot_be_left_out(write_run):
    run = write_run(heads=("a",))
    with pytest.raises(UserError) as error:
        ablate(run / "heads", ["a"], LOGISTIC)
    assert str(error.value) == (
        f"{run}/heads: ablation needs two or more heads that predict classes; name more heads."
    )
