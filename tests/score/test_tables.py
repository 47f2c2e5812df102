import pytest

from ser.corpus.config import MSP_CLASSES
from ser.score.config import ScoreConfig
from ser.score.run import score_run
from tests.score.factories import lines, printed


def test_tables_are_readable_at_80_columns_without_a_terminal(tmp_path, write_head):
    logits = [[float(i == j) for j in range(8)] for i in range(8)]
    dev = {"dev": (logits[:7], list(range(7)))}
    write_head("whisper-roberta-wce-sml", dev, classes=MSP_CLASSES)
    text = printed(score_run(tmp_path, ScoreConfig(), ["whisper-roberta-wce-sml"]))
    assert max(map(len, text.splitlines())) <= 80
    rows = lines(text)
    name = "whisper-roberta-wce-sml"
    assert f"{name} 1.000 [1.00, 1.00] 1.000 1.000 1.000" in rows  # a balanced split has one subset
    assert f"{name} {'100 ' * 7}-" in rows  # no row is neutral
    assert "dev: 7 labelled utterances\n" in text  # of speakers nothing is known
    assert "dev: no utterance is neutral; means leave such classes out.\n" in text
    assert f"dev: confusion matrix of {name} (rows true, columns predicted)" in text
    assert "contempt 0 0 0 0 0 0 1 0" in rows
    assert "\x1b" not in text


def test_class_names_are_cut_only_while_they_stay_distinct(tmp_path, write_head):
    dev = {"dev": ([[1, 0]], [0])}
    write_head("a", dev, classes=("surprise", "contempt"))
    text = printed(score_run(tmp_path, ScoreConfig(), ["a"]))
    assert "system surpr conte" in lines(text)
    write_head("a", dev, classes=("positive-high", "positive-low"))
    text = printed(score_run(tmp_path, ScoreConfig(), ["a"]))
    assert "system positive-high positive-low" in lines(text)


def entry(**more) -> dict:
    return {
        "macro_f1": 0.6667,
        "uar": 0.75,
        "accuracy": 0.9996,
        "per_class": {"angry": 0.5, "sad": 0.8},
        "bootstrap": {"mean": 0.5, "min": 0.4, "max": 0.6},
        "interval": {"macro_f1": [-0.0312, 1.0]},
        "n": 40,
        "confusion": [[10, 10], [0, 20]],
        "groups": {},
        "clusters": 8,
        "speakers": 8,
    } | more


def test_both_intervals_are_side_by_side():
    text = printed({"dev": {"a": entry(), "b": entry(interval={"macro_f1": None})}})
    rows = lines(text)
    assert "dev: 40 labelled utterances of 8 speakers\n" in text
    assert "a 0.667 [-.031, 1.00] 0.500 [.400, .600] 0.750 1.000" in rows
    assert "b 0.667 - 0.500 [.400, .600] 0.750 1.000" in rows
    assert "8 dev speakers: with fewer than 20, intervals and p-values are rough." in rows


@pytest.mark.parametrize("counts", [{"clusters": 4, "speakers": 4}, {"clusters": 4}])
def test_under_five_speakers_no_interval_is_printed(counts):
    numbers = {key: value for key, value in entry().items() if key != "speakers"} | counts
    rows = lines(printed({"test": {"a": numbers}}))
    assert "a 0.667 n/a: 4 speakers 0.500 [.400, .600] 0.750 1.000" in rows
    note = "4 test speakers: too few for intervals and p-values, which need at least 5."
    assert rows.count(note) == 1


def test_the_confusion_shown_is_the_stacks_when_there_is_one():
    text = printed({"dev": {"a": entry(macro_f1=0.9), "stack": entry()}})
    assert "dev: confusion matrix of stack (rows true, columns predicted)" in text
    text = printed({"dev": {"a": entry(macro_f1=0.9), "b": entry()}})
    assert "dev: confusion matrix of a (rows true, columns predicted)" in text


def test_attributes_have_a_row_each_and_fit_80_columns():
    numbers = {"ccc": 0.6, "interval": [0.5, 0.7], "pearson": 0.65, "rmse": 0.8, "n": 30}
    rated = {"arousal": numbers, "dominance": {**numbers, "n": 0}, "mean": numbers}
    alone = {"attributes": rated, "groups": {}, "clusters": 25}
    text = printed({"test": {"a": entry(attributes=rated), "whisper-roberta-ccc": alone}})
    assert "test: 30 rated utterances of 8 speakers\n" in text
    rows = lines(text)
    assert "a arousal 0.600 [.500, .700] 0.650 0.800" in rows
    assert "whisper-roberta-ccc mean 0.600 [.500, .700] 0.650 0.800" in rows
    assert not any("dominance" in row for row in rows)  # which nobody rated
    assert max(map(len, text.splitlines())) <= 80


def test_a_run_of_attributes_alone_has_no_table_of_classes():
    numbers = {"ccc": 0.6, "interval": None, "pearson": 0.65, "rmse": 0.8, "n": 30}
    alone = {"attributes": {"arousal": numbers, "mean": numbers}, "groups": {}, "clusters": 1}
    text = printed({"dev": {"a": alone}})
    assert "a arousal 0.600 n/a: 1 speaker 0.650 0.800" in lines(text)
    assert "F1" not in text


def test_groups_end_with_their_gap():
    group = {"n": 20, "speakers": 9, "macro_f1": 0.7, "interval": {"macro_f1": [0.6, 0.8]}}
    gap = {"macro_f1": {"difference": 0.1, "interval": [-0.1, 0.3]}}
    few = {**group, "speakers": 2, "macro_f1": 0.6, "interval": {"macro_f1": None}}
    scored = {"gender": {"f": group, "m": few, "gap": gap}}
    text = printed({"dev": {"a": entry(groups=scored)}})
    assert "dev: a by gender\n" in text
    assert "f 20 0.700 [.600, .800]" in lines(text)
    assert "m 20 0.600 n/a: 2 speakers" in lines(text)
    assert "gap (highest - lowest) 0.100 [-.100, .300]" in lines(text)


def test_train_is_a_table_of_its_own():
    train = {"a": {"in_sample": 0.65, "out_of_fold": None, "optimism": 0.24}}
    text = printed({"test": {"a": entry(train=train["a"])}})
    assert "train: macro-F1, and the generalization gap: in sample minus test\n" in text
    assert "a 0.650 - 0.240" in lines(text)
