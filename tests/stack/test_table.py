from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ser.cache.logits import HeadLogits, SplitLogits
from ser.corpus.errors import UserError
from ser.stack.table import LogitTable


def take(rows: SplitLogits, order: list[int]) -> SplitLogits:
    return SplitLogits(
        utterance=[rows.utterance[i] for i in order],
        logits=rows.logits[order],
        label=rows.label[order],
        speaker=[rows.speaker[i] for i in order],
        fold=rows.fold[order],
        rows=rows.rows,
        in_sample=None if rows.in_sample is None else rows.in_sample[order],
    )


def reorder(run, head: str, split: str, order: list[int]) -> None:
    path = run / "heads" / head / "logits.h5"
    logits = HeadLogits.read(path)
    splits = {**logits.splits, split: take(logits.splits[split], order)}
    replace(logits, splits=splits).write(path)


def test_heads_are_side_by_side_in_the_requested_order(write_run):
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
    rows = LogitTable.read(run / "heads", ["a", "b"]).splits["dev"]
    assert rows.utterance == wanted.utterance
    assert np.array_equal(rows.logits, wanted.logits)


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
        f"{run}/heads/c/logits.h5: there are no logits; train it with `ser heads train-all`."
    )


def test_out_of_fold_and_in_sample_logits_of_train_are_separate(write_run):
    run = write_run(kind="out-of-fold")
    order = list(range(39, -1, -1))
    reorder(run, "b", "train", order)
    table = LogitTable.read(run / "heads", ["a", "b"])
    train, dev = table.splits["train"], table.splits["dev"]
    read = [HeadLogits.read(run / "heads" / h / "logits.h5").splits["train"] for h in "ab"]
    for field in ("logits", "in_sample"):
        wanted = [getattr(read[0], field), getattr(read[1], field)[order]]
        assert np.array_equal(getattr(train, field), np.hstack(wanted))
    assert not np.array_equal(train.logits, train.in_sample)
    assert np.array_equal(dev.logits, dev.in_sample)
    assert table.protocol(None) == "oof"
    assert table.protocol("unicamp") == "unicamp"


def test_the_protocol_is_what_all_heads_allow(write_run):
    run = write_run(heads=("a",), kind="out-of-fold")
    write_run(heads=("b",))
    table = LogitTable.read(run / "heads", ["a", "b"])
    assert table.protocol(None) == "unicamp"
    with pytest.raises(UserError) as error:
        table.protocol("oof")
    assert str(error.value) == (
        f"{run}/heads/b/logits.h5: head 'b' has no out-of-fold logits for train; train it with "
        "cross_fit: 5 or set stack.protocol: unicamp."
    )
    path = run / "heads" / "a" / "logits.h5"
    logits = HeadLogits.read(path)
    train = replace(logits.splits["train"], in_sample=None)
    replace(logits, splits={**logits.splits, "train": train}).write(path)
    with pytest.raises(UserError) as error:
        LogitTable.read(run / "heads", ["a", "b"]).protocol(None)
    assert str(error.value) == (
        f"{path}: head 'a' has no in-sample logits for train; train it again or set "
        "stack.protocol: oof."
    )


def test_attributes_are_next_to_the_logits_even_of_heads_that_predict_only_them(write_run):
    run = write_run(attributes=("arousal", "valence"))
    write_run(heads=("c",))
    path = run / "heads" / "b" / "logits.h5"
    head = HeadLogits.read(path)
    none = {s: replace(r, logits=np.empty((len(r.label), 0))) for s, r in head.splits.items()}
    replace(head, splits=none).write(path)
    table = LogitTable.read(run / "heads", ["a", "b", "c"])
    assert table.classifiers == ("a", "c")
    assert table.attributes == ("arousal", "valence")
    assert table.columns == tuple((h, a) for h in "ab" for a in ("arousal", "valence"))
    dev = table.splits["dev"]
    assert dev.logits.shape == (12, 6)
    assert np.array_equal(dev.predicted[:, 2:], head.splits["dev"].predicted)
    assert np.array_equal(dev.truth, head.splits["dev"].truth)
    rest = table.without("a")
    assert rest.columns == (("b", "arousal"), ("b", "valence"))
    assert np.array_equal(rest.splits["dev"].logits, dev.logits[:, 3:])
    assert np.array_equal(rest.splits["dev"].predicted, dev.predicted[:, 2:])


def test_ratings_that_heads_do_not_agree_about_are_named(write_run):
    run = write_run(attributes=("arousal",))
    path = run / "heads" / "b" / "logits.h5"
    head = HeadLogits.read(path)
    dev = replace(head.splits["dev"], truth=head.splits["dev"].truth + 1)
    replace(head, splits={**head.splits, "dev": dev}).write(path)
    with pytest.raises(UserError, match="the arousal of 'dev0' is not the one"):
        LogitTable.read(run / "heads", ["a", "b"])


def test_logits_that_are_not_numbers_are_named(write_run):
    run = write_run()
    path = run / "heads" / "b" / "logits.h5"
    head = HeadLogits.read(path)
    broken = head.splits["dev"].logits.copy()
    broken[3] = np.nan
    dev = replace(head.splits["dev"], logits=broken)
    replace(head, splits={**head.splits, "dev": dev}).write(path)
    with pytest.raises(UserError) as error:
        LogitTable.read(run / "heads", ["a", "b"])
    assert str(error.value) == (
        f"{path}: the logits of 1 utterance of dev are not finite ('dev3' is the first); train "
        "the head again with a lower lr."
    )
