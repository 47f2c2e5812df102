"""`ser heads`, and which heads `ser stack` and `ser score` take: errors before any work."""

import json

import pytest

from ser.commands.main import cli
from ser.corpus.errors import UserError
from ser.pipeline.document import read_mapping
from ser.pipeline.file import Pipeline
from ser.stages.heads import head_entry, heads_table, list_heads
from tests.ser.commands.factories import write_run
from tests.ser.factories import PIPELINE, RUN, make_corpus, ser

CLASSES = "loss: [wce, sml], sampler: neutral_expressive"


def write(folder, text=PIPELINE):
    path = folder / "pipeline.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("jobs", ["some", "0", "-1", "1.5"])
def test_jobs_are_auto_or_a_number(tmp_path, jobs):
    words = ["heads", "train-all", "--jobs", jobs, "--pipeline", str(write(tmp_path))]
    with pytest.raises(UserError, match=rf"^--jobs {jobs}: give auto, or a number from 1 on\.$"):
        cli(words, standalone_mode=False)


@pytest.mark.parametrize(
    "section", ["", "heads:\n", "heads: {}\n", "heads: {defaults: {epochs: 1}}\n"]
)
def test_commands_on_heads_without_any_are_reported_in_one_sentence(tmp_path, section):
    path = write(tmp_path, PIPELINE[: PIPELINE.index("heads:")] + section)
    for command in (
        ["list"],
        ["train-all"],
        ["train", "one"],
        ["tune", "one", "--space", str(path)],
    ):
        with pytest.raises(UserError) as error:
            cli(["heads", *command, "--pipeline", str(path)], standalone_mode=False)
        assert str(error.value) == f"{path}: there are no heads; add some under `heads:`."


def test_without_features_there_is_nothing_to_extract(tmp_path):
    path = write(tmp_path, PIPELINE[: PIPELINE.index("features:")])
    with pytest.raises(UserError, match="there are no features; add some under `features:`"):
        cli(["extract", "--all", "--pipeline", str(path)], standalone_mode=False)


def test_a_head_may_be_all_defaults(tmp_path):
    text = PIPELINE.replace("defaults: {", "defaults: {features: [prosody], init: w.safetensors, ")
    path = write(
        tmp_path, text.replace("  one: {features: [{name: prosody, stride: 8}]}", "  one:")
    )
    pipeline = Pipeline.load(path)
    assert head_entry(pipeline, "one")["features"] == ["prosody"]
    assert pipeline.resolved()["heads"]["one"] == {"init": str(tmp_path / "w.safetensors")}


def test_without_heads_there_is_nothing_to_stack_or_score(tmp_path):
    none = write(tmp_path, PIPELINE[: PIPELINE.index("heads:")])
    for command in (["stack", "fit"], ["stack", "compare"], ["score"]):
        with pytest.raises(UserError) as error:
            cli([*command, "--pipeline", str(none)], standalone_mode=False)
        assert str(error.value) == (
            f"{none}: there are no heads to stack or score; add some under `heads:`."
        )


def test_the_list_names_what_is_learned_in_any_phase(tmp_path):
    phases = "phases: [{epochs: 1, loss: [wce, sml]}, {epochs: 2, loss: [wce], sampler: natural}]"
    sampled = f"sampler: class_balanced, {phases}"
    table = heads_table(
        list_heads(Pipeline.load(write(tmp_path, PIPELINE.replace(CLASSES, sampled))))
    )
    assert table.rows() == [
        ("one", "prosody", "wce", "natural", "no", None),
        ("two", "prosody", "wce+sml", "class_balanced+natural", "no", None),
    ]


def test_stale_heads_are_listed_and_noted(tmp_path):
    make_corpus(tmp_path)
    assert ser(*RUN, cwd=tmp_path).returncode == 0

    def trained(*words):
        rows = json.loads(ser("heads", "list", "--json", *words, cwd=tmp_path).stdout)
        return {row["head"]: row["trained"] for row in rows if row["head"] != "baseline"}

    assert trained() == {"one": "yes", "two": "yes"}
    assert "other options" not in ser("score", cwd=tmp_path).stderr
    changed = ("--set", "heads.two.hidden=16")
    assert trained(*changed) == {"one": "yes", "two": "stale"}
    note = (
        f"ser: {tmp_path}/run: trained with other options or classes than pipeline.yaml gives: "
        "two; to update them, run `ser heads train-all`.\n"
    )
    for command in (["stack", "fit"], ["score"], ["report", "--figures", "none"]):
        done = ser(*command, *changed, cwd=tmp_path)
        assert (done.returncode, done.stderr.count(note)) == (0, 1), done.stderr
    assert set(trained("--set", "corpus.classes=[sad, angry, neutral]").values()) == {"stale"}


def test_logits_alone_are_not_stale(tmp_path):
    write_run(tmp_path)
    done = ser("stack", "fit", "--set", "heads.two.hidden=16", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_damaged_head_hides_no_other(tmp_path, capsys):
    path, file = write(tmp_path), tmp_path / "run" / "heads" / "one" / "head.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    words = ["heads", "list", "--json", "--pipeline", str(path)]
    assert cli(words, standalone_mode=False) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [(row["head"], row["trained"]) for row in rows] == [("one", "damaged"), ("two", "no")]
    assert rows[0]["error"].startswith(f"{file}: it is not valid JSON (")
    assert rows[0]["error"].endswith("; train the head again with `ser heads train one --force`.")
    assert rows[1]["error"] is None


@pytest.mark.parametrize("content", ["", "a,b\n1,2,3\n", "head,error\none,odd\n"])
def test_a_damaged_list_of_failures_is_one_sentence(tmp_path, content):
    write(tmp_path)
    file = tmp_path / "run" / "heads" / "failed.csv"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    done = ser("heads", "list", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ser: {file}: it is damaged (")
    assert done.stderr.endswith("); delete it and run `ser heads train-all`.\n")


@pytest.mark.parametrize("text", ["", "- lr\n", "lr\n"])
def test_a_space_that_is_no_mapping_is_one_sentence(tmp_path, text):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_mapping(tmp_path / "space.yaml")
    assert str(error.value) == (
        f"{tmp_path}/space.yaml: it must be a mapping; write `key: value` lines."
    )
