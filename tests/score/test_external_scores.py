"""Other tools' predictions scored against a manifest, by hand."""

import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.score.config import ScoreConfig
from ser.score.external_scores import score_alone, with_classes
from ser.score.scores import plain_values
from tests.score.factories import system

CONFIG = ScoreConfig(bootstrap=2, resamples=50)
EMOTIONS = ["angry", "angry", "sad", "sad", "angry", "sad"]


def manifest(split="test", emotions=EMOTIONS):
    rows = {
        "utterance": [f"u{i}" for i in range(6)],
        "path": "x.wav",
        "split": split,
        "speaker": [f"s{i}" for i in range(6)],
        "gender": ["f", "m"] * 3,
        "emotion": emotions,
    }
    return Manifest(pl.DataFrame(rows, schema_overrides={"emotion": pl.String}), source="m.csv")


def table(path, predictions):
    rows = "".join(f"u{i},{name}\n" for i, name in enumerate(predictions))
    path.write_text("utterance,prediction\n" + rows)
    return path


def test_tables_are_scored_and_compared_with_the_first(tmp_path):
    right = table(tmp_path / "right.csv", EMOTIONS)
    calm = table(tmp_path / "calm.csv", ["calm", *EMOTIONS[1:]])
    scores = score_alone([right, calm], manifest(), CONFIG)
    assert list(scores.metrics) == ["test"]
    plain = plain_values(scores.metrics)["test"]
    first, second = plain["right.csv"], plain["calm.csv"]
    assert (first["macro_f1"], first["missing"], first["aurc"]) == (1.0, 0, None)
    assert set(first["groups"]["gender"]) == {"f", "m", "gap"}
    assert scores.classes == ("angry", "sad", "calm")
    assert second["macro_f1"] == pytest.approx((4 / 5 + 1) / 2)  # of the classes that occur
    assert second["confusion"] == [[2, 0, 1], [0, 3, 0], [0, 0, 0]]
    assert first["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 0]]
    assert list(first["per_class"]) == list(second["per_class"])
    (comparison,) = scores.comparisons
    assert comparison.first == f"{calm}: calm.csv"
    assert comparison.macro_f1.difference.value == pytest.approx(-0.1)
    assert comparison.agreement.only_second == pytest.approx(1 / 6)


def test_without_dev_and_test_all_utterances_are_scored(tmp_path):
    scores = score_alone([table(tmp_path / "t.csv", EMOTIONS)], manifest(split="train"), CONFIG)
    assert scores.metrics["test"]["t.csv"].classes.n == 6
    assert scores.notes == [
        "m.csv: it has no dev and no test split; all of its 6 utterances are scored, as test."
    ]


def test_missing_utterances_are_counted(tmp_path):
    scores = score_alone(
        [table(tmp_path / "t.csv", EMOTIONS[:4])], manifest(), CONFIG, partial=True
    )
    entry = scores.metrics["test"]["t.csv"]
    assert (entry.classes.n, entry.missing) == (4, 2)


def test_files_of_one_name_are_distinguished_by_their_folders(tmp_path):
    (tmp_path / "x").mkdir()
    files = [table(tmp_path / "t.csv", EMOTIONS), table(tmp_path / "x" / "t.csv", EMOTIONS)]
    assert list(score_alone(files, manifest(), CONFIG).metrics["test"]) == list(map(str, files))


def test_a_manifest_without_labels_is_refused(tmp_path):
    with pytest.raises(UserError) as error:
        score_alone(
            [table(tmp_path / "t.csv", EMOTIONS)],
            Manifest(manifest(emotions=[None] * 6).frame, ("angry", "sad"), "m.csv"),
            CONFIG,
        )
    assert str(error.value) == (
        "m.csv: no utterance of dev or test that a table predicts has a label; give the manifest "
        "that has the labels."
    )


def test_further_classes_have_no_rows():
    one = system(per_class={"b": 1.0}, confusion=[[2]])
    both = with_classes(one, ("a", "b")).classes
    assert {name: score.value for name, score in both.per_class.items()} == {"a": 0.0, "b": 1.0}
    assert both.confusion == [[0, 0], [0, 2]]
