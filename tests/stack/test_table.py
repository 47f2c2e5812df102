from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.logits import HeadLogits, SplitLogits
from corpus.errors import UserError
from stack.table import LogitTable


def take(rows: SplitLogits, order: list[int]) -> SplitLogits:
    return SplitLogits(
        utterance=[rows.utterance[i] for i in order],
        logits=rows.logits[order],
        label=rows.label[order],
        speaker=[rows.speaker[i] for i in order],
        fold=rows.fold[order],
        rows=rows.rows,
    )


def reorder(run, head: str, split: str, order: list[int]) -> None:
    path = run / "heads" / head / "logits.h5"
    logits = HeadLogits.read(path)
    splits = {**logits.splits, split: take(logits.splits[split], order)}
    replace(logits, splits=splits).write(path)


def test_heads_stand_side_by_side_in_the_order_asked_for(write_run):
    run = write_run()
    table = LogitTable.read(run / "heads", ["b", "a"])
    assert table.heads == {"b": "made-b-0", "a": "made-a-0"}
    assert table.classes == ("angry", "sad", "happy")
    assert list(table.splits) == ["train", "dev", ""]
    dev = table.splits["dev"]
    read = [HeadLogits.read(run / "heads" / h / "logits.h5").splits["dev"] for h in "ba"]
    assert dev.logits.dtype == np.float32
    assert np.array_equal(dev.logits, np.hstack([rows.logits for rows in read]))
    assert dev.utterance == read[0].utterance
    assert dev.label.tolist() == read[0].label.tolist()
    assert dev.speaker == read[0].speaker


FIXTURE = [HealthCheck.function_scoped_fixture]  # every example writes the run anew


@settings(deadline=None, max_examples=10, suppress_health_check=FIXTURE)
@given(order=st.permutations(range(12)))
def test_rows_are_aligned_by_id_whatever_their_order(write_run, order):
    run = write_run()
    wanted = LogitTable.read(run / "heads", ["a", "b"]).splits["dev"]
    reorder(run, "b", "dev", order)
    found = LogitTable.read(run / "heads", ["a", "b"]).splits["dev"]
    assert found.utterance == wanted.utterance
    assert np.array_equal(found.logits, wanted.logits)


@pytest.mark.parametrize(("lacks", "has"), [("b", "a"), ("a", "b")])
def test_an_utterance_that_one_head_lacks_is_named(write_run, lacks, has):
    run = write_run()
    reorder(run, lacks, "dev", [i for i in range(12) if i not in (3, 7)])
    with pytest.raises(UserError) as error:
        LogitTable.read(run / "heads", ["a", "b"])
    assert str(error.value) == (
        f"{run}/heads/{lacks}/logits.h5: head '{lacks}' lacks utterance 'dev3' of dev, which head "
        f"'{has}' has (2 such utterances); train both on one manifest."
    )


@pytest.mark.parametrize(("lacks", "has"), [("b", "a"), ("a", "b")])
def test_a_split_that_one_head_lacks_is_named(write_run, lacks, has):
    run = write_run()
    path = run / "heads" / lacks / "logits.h5"
    logits = HeadLogits.read(path)
    replace(logits, splits={k: v for k, v in logits.splits.items() if k}).write(path)
    with pytest.raises(UserError, match=f"head '{lacks}' lacks utterance 'un0' of unlabelled"):
        LogitTable.read(run / "heads", ["a", "b"])


def test_a_missing_head_is_named(write_run):
    run = write_run()
    with pytest.raises(UserError) as error:
        LogitTable.read(run / "heads", ["a", "c"])
    assert str(error.value) == (
        f"{run}/heads/c/logits.h5: there are no logits; train the head with `ser heads train`."
    )
