from dataclasses import replace

import pytest

from ser.score.config import ScoreConfig
from ser.score.report.contents import gather
from ser.score.report.sections import sections
from ser.score.run import score_run

NAMES = [
    "result",
    "systems",
    "classes",
    "attributes",
    "calibration",
    "abstention",
    "votes",
    "groups",
    "top-k",
    "agreement",
    "hardest",
    "curves",
    "generalization",
    "setup",
]


def by_name(contents):
    return {section.name: section for section in sections(contents)}


def test_a_full_run_has_every_section_in_order(full):
    shown = sections(full)
    assert [section.name for section in shown] == NAMES
    assert all(section.tables or section.figures or section.facts for section in shown)


def test_the_result_is_reported_in_one_sentence_with_corpus_day_and_command(full):
    f1 = full.metrics["test"]["stack"].classes.scores["macro_f1"]
    full.metrics["dev"]["stack"].classes.scores["macro_f1"].value = 1.0
    low, high = f1.interval
    (full.run / "pipeline.yaml").touch()
    result = by_name(replace(full, day="2026-01-31", command="ser run"))["result"]
    assert result.text == (
        f"The stack (random forest over 2 heads) reaches a macro-F1 of {f1.value:.3f} "
        f"[{low:.3f}, {high:.3f}] on 30 test utterances of 5 speakers."
    )
    assert result.details == [
        ("Corpus", "m, 78 utterances of 5 speakers"),
        ("Date", "2026-01-31"),
        ("Command", "ser run"),
    ]
    labels = [label for label, _, _ in result.facts]
    assert labels == ["Macro-F1", "UAR", "Accuracy", "Utterances", "Speakers"]
    assert result.notes == [
        "5 test speakers: with fewer than 20, intervals and p-values are rough."
    ]


def test_abstention_has_the_curve_and_the_area_of_every_system(full):
    section = by_name(full)["abstention"]
    systems = {name: scores.classes for name, scores in full.metrics["test"].items()}
    (table,) = section.tables
    assert [row[:2] for row in table.frame.rows()] == [(n, s.aurc) for n, s in systems.items()]
    assert table.frame["Risk at 100%"].to_list() == pytest.approx(
        [1 - systems[name].scores["accuracy"].value for name in ("good", "poor", "stack")]
    )
    (figure,) = section.figures
    lines = {line.name: list(line.y) for line in figure.plot.data}
    assert lines == {name: scores.risk for name, scores in systems.items()}
    assert list(lines)[-1] == "stack"  # drawn above the others
    systems["stack"].risk = None  # as an earlier version wrote it
    assert "abstention" not in by_name(full)


def test_a_head_that_is_better_than_the_stack_on_dev_is_noted(full):
    full.metrics["dev"]["good"].classes.scores["macro_f1"].value = 0.9
    full.metrics["dev"]["stack"].classes.scores["macro_f1"].value = 0.8
    note = "On dev, the head good alone scores higher than the stack (0.900 against 0.800)."
    assert by_name(full)["result"].notes[-1] == note
    full.metrics["dev"]["stack"].classes.scores["macro_f1"].value = 0.9
    assert note not in by_name(full)["result"].notes


def test_synthetic_speech_is_noted_first(full):
    notes = by_name(replace(full, synthetic=1.0))["result"].notes
    assert notes[0] == "The speech is synthetic, so the scores say nothing about real emotion."


def test_a_run_without_labels_has_no_empty_sections(tmp_path, write_head):
    write_head("only", {"": ([[1, 0]], [-1])})
    contents = gather(tmp_path, score_run(tmp_path, ScoreConfig(), ["only"]), ["only"])
    shown = by_name(contents)
    assert list(shown) == ["result", "setup"]
    assert shown["result"].text == (
        "No utterance of dev or test has an emotion or a rating, so there are no scores."
    )
    assert shown["setup"].text.endswith(
        "The folder has no head.json, so how the heads were trained is not known."
    )


def test_one_head_alone_has_no_agreement(tmp_path, write_head):
    write_head("only", {"dev": ([[1, 0], [0, 1], [1, 0]], [0, 1, 1])})
    contents = gather(tmp_path, score_run(tmp_path, ScoreConfig(), ["only"]), ["only"])
    shown = by_name(contents)
    assert list(shown) == ["result", "systems", "classes", "calibration", "hardest", "setup"]
    result = shown["result"]
    assert result.text.startswith("The head only reaches a macro-F1 of 0.667 [")
    assert result.text.endswith("] on 3 dev utterances.")
    assert result.notes == [
        "No speakers are known: each utterance counts as its own, so the intervals are probably "
        "too narrow."
    ]
    assert shown["hardest"].text == (
        "The 3 utterances of dev to whose true class the head only gives the lowest probability. "
        "They have no transcripts. Their audio files are not on this machine."
    )
    assert not shown["calibration"].figures  # of one bin
    assert not shown["calibration"].folded


def test_a_head_of_attributes_alone_leads_with_its_ccc(full, tmp_path, write_head):
    rated = {"dev": {"truth": [[1.0], [2.0], [3.0]], "predicted": [[1.0], [2.0], [3.0]]}}
    write_head("rates", {"dev": ([], [-1] * 3)}, attributes=("valence",), more=rated)
    run = tmp_path / "alone"
    (run / "heads").mkdir(parents=True)
    (tmp_path / "heads" / "rates").rename(run / "heads" / "rates")
    contents = gather(run, score_run(run, ScoreConfig(), ["rates"]), ["rates"])
    shown = by_name(contents)
    assert shown["result"].text.startswith("The head rates reaches a mean CCC of 1.000")
    assert shown["attributes"].figures[0].name == "bins"
    assert "systems" not in shown


def test_a_class_without_utterances_is_named(full):
    full.metrics["test"]["stack"].classes.confusion[1] = [0, 0, 0]
    assert by_name(full)["classes"].text.endswith(
        "Test has no utterance of sad; means leave such classes out."
    )


def test_one_head_has_no_best_k(full):
    assert "top-k" not in by_name(replace(full, top=full.top.filter(full.top["k"] == 1)))
    assert "top-k" not in by_name(replace(full, top=None))
