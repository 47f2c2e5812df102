"""The table of runs: exact rows of tiny runs, and what damage and links do to it."""

import os

import pytest

import ser.score.run_list
from ser.corpus.errors import UserError
from ser.score.run_list import RunSummary, list_runs
from tests.score.factories import entry
from tests.score.run_list_factories import PIPELINE, write, write_run


def test_a_complete_run_has_the_scores_of_the_head_that_is_best_on_dev(tmp_path):
    write_run(tmp_path / "real" / "a")
    listed = list_runs(tmp_path)
    assert listed.whole
    assert listed.runs == [
        RunSummary(
            run="real/a",
            state="complete",
            corpus="ravdess",
            features=("whisper", "prosody"),
            heads=("one", "two"),
            split="test",
            best_head="two",
            head_macro_f1=0.375,
            head_ccc=None,
            stack="mean_logits",
            stack_macro_f1=0.5,
            stack_ccc=None,
            minutes=1.5,
            when="2027-01-15T08:00:00Z",
            synthetic=0.5,
        )
    ]


def test_without_labels_on_test_the_scores_are_those_on_dev(tmp_path):
    dev = {"one": entry(None, 0.25), "two": {}}
    write_run(tmp_path, metrics={"dev": dev})
    (run,) = list_runs(tmp_path).runs
    assert (run.run, run.split, run.best_head, run.head_macro_f1) == (".", "dev", "one", None)
    assert (run.head_ccc, run.stack_macro_f1) == (0.25, None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"heads": ()}, "0 of 2 heads trained"),
        ({"heads": ["two"]}, "1 of 2 heads trained"),
        ({"stack": False}, "there is no stack"),
        ({"metrics": None}, "not scored"),
        ({"metrics": {}}, "not scored"),
    ],
)
def test_the_stage_that_a_half_made_run_lacks_is_its_reason(tmp_path, options, reason):
    write_run(tmp_path / "a", **options)
    (run,) = list_runs(tmp_path).runs
    assert (run.state, run.reason) == ("incomplete", reason)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("pipeline.yaml", "[", "pipeline.yaml:2: not valid YAML (did not find"),
        ("pipeline.yaml", "a", "pipeline.yaml: it is not a mapping"),
        ("heads/one/head.json", "{", "heads/one/head.json: it is not valid JSON"),
        ("heads/two/head.json", '{"seconds": -1}', "heads/two/head.json: 'seconds' is not valid"),
        ("heads/one/head.json", '{"score": "x"}', "heads/one/head.json: 'score' is not valid"),
        ("heads/one/head.json", '{"dev": null}', "heads/one/head.json: 'dev' is not valid"),
        (
            "stack/stack.json",
            '{"heads": {}, "temperature": "hot"}',
            "stack/stack.json: 'temperature' is not valid",
        ),
        (
            "stack/stack.json",
            '{"heads": {}, "temperature": 0}',
            "stack/stack.json: 'temperature' is not valid",
        ),
        (
            "stack/stack.json",
            '{"heads": {}, "offsets": [0.5, 0.5]}',
            "stack/stack.json: it has 2 offsets, not one for each class",
        ),
        ("stack/stack.json", "{}", "stack/stack.json: 'heads' is not valid"),
        ("report/metrics.json", "[]", "report/metrics.json: it holds no JSON object"),
        ("report/metrics.json", '{"crc32c": "00000000"}', "report/metrics.json: it is damaged"),
        ("report/metrics.json", '{"dev": {"one": 1}}', "report/metrics.json: 'dev.one' is not"),
    ],
)
def test_a_damaged_run_is_listed_with_the_reason_and_the_others_too(
    tmp_path, file, content, reason
):
    write_run(tmp_path / "a")
    write(tmp_path / "a" / file, content)
    write_run(tmp_path / "b")
    damaged, whole = list_runs(tmp_path).runs
    assert damaged.state == "damaged"
    assert damaged.reason.startswith(reason)
    assert (whole.state, whole.reason) == ("complete", None)


def test_the_defaults_of_fine_tuned_models_are_no_head(tmp_path):
    write_run(tmp_path / "a", heads=("one", "two", "tuned"))
    finetune = "finetune: {defaults: {epochs: 1}, tuned: {model: wavlm-base-plus}}\n"
    write(tmp_path / "a" / "pipeline.yaml", PIPELINE + finetune)
    (run,) = list_runs(tmp_path).runs
    assert (run.state, run.heads) == ("complete", ("one", "two", "tuned"))


def test_a_run_without_its_pipeline_is_named_by_its_heads(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "a" / "pipeline.yaml").unlink()
    (run,) = list_runs(tmp_path).runs
    assert (run.reason, run.heads, run.corpus) == (
        "there is no pipeline.yaml",
        ("one", "two"),
        None,
    )


def test_the_rotations_of_a_cross_validation_are_one_run(tmp_path):
    for name in ("", "cv/speaker", "cv/speaker/speaker-1"):
        write_run(tmp_path / "a" / name)
    (tmp_path / "a/cv/speaker/rotations.json").write_text("{}")
    assert [run.run for run in list_runs(tmp_path).runs] == ["a", "a/cv/speaker"]


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    write_run(tmp_path / "elsewhere" / "x")
    runs = tmp_path / "runs"
    write_run(runs / "a")
    for name, target in (("link", tmp_path / "elsewhere"), ("inner", runs / "a")):
        (runs / name).symlink_to(target)
    (runs / "a/stack/stack.json").unlink()
    (runs / "a/stack/stack.json").symlink_to(tmp_path / "elsewhere/x/stack/stack.json")
    assert {run.run: run.reason for run in list_runs(runs).runs} == {
        "a": "stack/stack.json: it is a link that leads out of the folder",
        "link": "it is a link that leads out of the folder",
    }


def test_a_pipe_in_place_of_a_record_does_not_block(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "a/report/metrics.json").unlink()
    os.mkfifo(tmp_path / "a/report/metrics.json")
    assert [r.reason for r in list_runs(tmp_path).runs] == ["report/metrics.json: it is not a file"]


def test_scores_of_an_earlier_stack_are_not_complete(tmp_path):
    import polars as pl

    write_run(tmp_path / "a")
    rows = pl.DataFrame({"utterance": ["u"], "prediction": ["sad"]})
    rows.write_parquet(tmp_path / "a/stack/predictions.parquet")
    rows.with_columns(prediction=pl.lit("angry")).write_csv(tmp_path / "a/report/predictions.csv")
    assert [r.reason for r in list_runs(tmp_path).runs] == ["the scores are of an earlier stack"]


def test_the_search_is_bounded_and_other_folders_of_a_project_are_not_runs(tmp_path, monkeypatch):
    (tmp_path / "heads").mkdir()
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)  # of the project
    for name in "abcd":
        write_run(tmp_path / name)
    (tmp_path / ".hidden").mkdir()
    assert [run.run for run in list_runs(tmp_path).runs] == list("abcd")
    monkeypatch.setattr(ser.score.run_list, "MOST", 4)
    listed = list_runs(tmp_path)
    assert ([run.run for run in listed.runs], listed.whole) == (list("abc"), False)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError) as error:
        list_runs(tmp_path / "none")
    assert str(error.value) == (
        f"{tmp_path}/none: there is no such folder; give the one that your runs are in."
    )
