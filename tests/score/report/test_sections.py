from dataclasses import replace

from score.config import ScoreConfig
from score.report.contents import gather
from score.report.sections import NO_CLASSES, sections
from score.run import score_run

NAMES = [
    "headline",
    "systems",
    "confusion",
    "per-class",
    "curves",
    "top-k",
    "calibration",
    "groups",
    "agreement",
    "hardest",
    "attributes",
    "optimism",
    "made-with",
]


def by_name(contents):
    return {section.name: section for section in sections(contents)}


def test_a_full_run_has_every_section_in_order_and_leaves_none_out(full):
    made = sections(full)
    assert [section.name for section in made] == NAMES
    assert not [section.name for section in made if "Left out" in section.text]
    assert all(section.tables or section.figures or section.facts for section in made)


def test_the_headline_is_one_sentence_of_the_best_system(full):
    numbers = full.metrics["test"]["stack"]
    full.metrics["dev"]["stack"]["macro_f1"] = 1.0
    low, high = numbers["interval"]["macro_f1"]
    headline = by_name(full)["headline"]
    assert headline.text == (
        f"The stack (random_forest over 2 heads) reaches a macro-F1 of {numbers['macro_f1']:.3f} "
        f"(95 % interval {low:.3f} to {high:.3f}) on 30 test utterances of 5 speakers. "
        "With 5 speakers the intervals are narrower than they should be."
    )
    labels = [label for label, _, _ in headline.facts]
    assert labels == ["Macro-F1", "UAR", "Accuracy", "Utterances", "Speakers"]


def test_the_headline_admits_a_head_that_is_better_than_the_stack_on_dev(full):
    full.metrics["dev"]["good"]["macro_f1"] = 0.9
    full.metrics["dev"]["stack"]["macro_f1"] = 0.8
    said = "On dev the head good alone is better than the stack (0.900 against 0.800)."
    assert by_name(full)["headline"].text.endswith(said)
    full.metrics["dev"]["stack"]["macro_f1"] = 0.9
    assert said not in by_name(full)["headline"].text


def test_a_run_without_labels_says_why_each_section_is_left_out(tmp_path, write_head):
    write_head("only", {"": ([[1, 0]], [-1])})
    contents = gather(tmp_path, score_run(tmp_path, ScoreConfig(), ["only"]), ["only"])
    text = {name: section.text for name, section in by_name(contents).items()}
    assert text["headline"] == (
        "No utterance of dev or test has a known emotion or rating: there is nothing to score."
    )
    for name in (
        "systems",
        "confusion",
        "per-class",
        "top-k",
        "calibration",
        "agreement",
        "hardest",
    ):
        assert text[name] == NO_CLASSES
    assert text["curves"] == "Left out: the run folder has no history.csv of any head."
    assert text["groups"] == (
        "Left out: the manifest has no group column with a value (score.groups of the pipeline "
        "names them)."
    )
    assert text["attributes"] == (
        "Left out: no head predicts arousal, valence or dominance of rated utterances."
    )
    assert text["optimism"] == "Left out: no head has logits of labelled utterances of train."
    assert text["made-with"].endswith(
        "The folder has no head.json, so how the heads were trained is not known."
    )


def test_one_head_alone_has_no_agreement_and_its_name_is_no_best(tmp_path, write_head):
    write_head("only", {"dev": ([[1, 0], [0, 1], [1, 0]], [0, 1, 1])})
    contents = gather(tmp_path, score_run(tmp_path, ScoreConfig(), ["only"]), ["only"])
    made = by_name(contents)
    assert made["headline"].text.startswith("The head only reaches a macro-F1 of 0.667 (95 % ")
    assert made["headline"].text.endswith(
        "on 3 dev utterances. Each utterance counts as a speaker of its own."
    )
    assert made["agreement"].text == "Left out: there is one system only."
    assert made["hardest"].text == (
        "The 3 utterances of dev whose true class the head only finds least probable. No "
        "transcript is known of them. Their audio files are not on this machine."
    )


def test_a_head_of_attributes_alone_leads_with_its_ccc(full, tmp_path, write_head):
    said = {"dev": {"truth": [[1.0], [2.0], [3.0]], "predicted": [[1.0], [2.0], [3.0]]}}
    write_head("rates", {"dev": ([], [-1] * 3)}, attributes=("valence",), more=said)
    run = tmp_path / "alone"
    (run / "heads").mkdir(parents=True)
    (tmp_path / "heads" / "rates").rename(run / "heads" / "rates")
    contents = gather(run, score_run(run, ScoreConfig(), ["rates"]), ["rates"])
    made = by_name(contents)
    assert made["headline"].text.startswith("The head rates reaches a mean CCC of 1.000")
    assert made["attributes"].figures[0].name == "bins"
    assert made["systems"].text == NO_CLASSES


def test_a_class_that_nobody_uttered_is_said_to_be_left_out(full):
    full.metrics["test"]["stack"]["confusion"][1] = [0, 0, 0]
    assert by_name(full)["per-class"].text == (
        "Macro-F1 is the mean of these bars. No utterance of test is sad; means leave such classes "
        "out."
    )


def test_without_a_labelled_dev_there_is_no_order_of_heads(full):
    metrics = {"test": full.metrics["test"]}
    contents = replace(full, metrics=metrics, top=None)
    assert by_name(contents)["top-k"].text == (
        "Left out: heads are ordered by dev, and dev has no labelled utterance."
    )
