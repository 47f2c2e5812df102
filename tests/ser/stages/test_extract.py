import pytest

from ser.corpus.errors import UserError
from ser.pipeline.file import Pipeline
from ser.predict.features import LiveFeatures
from ser.stages.extract import extract_features
from tests.ser.factories import make_corpus


def test_a_wrong_second_feature_is_found_before_the_first_is_extracted(tmp_path):
    make_corpus(tmp_path, 3)
    (tmp_path / "model").mkdir()
    path = tmp_path / "pipeline.yaml"
    wrong = "  frames: {kind: speech, model: model}\n"
    path.write_text(path.read_text().replace("heads:\n", f"{wrong}heads:\n", 1))
    pipeline = Pipeline.load(path)
    with pytest.raises(UserError, match=r"^features\.frames: .*/model: it has no config.json; "):
        list(extract_features(pipeline, ["prosody", "frames"], "cpu"))
    assert not (tmp_path / "cache").exists()
    [report] = extract_features(pipeline, ["prosody"], "cpu")
    assert report.extracted == 3


def test_imported_transcripts_are_found_beside_the_file_and_are_not_for_other_audio(tmp_path):
    make_corpus(tmp_path, 3)
    (tmp_path / "words.csv").write_text("utterance,transcript\nu0,yes\nu2,no\n")
    path = tmp_path / "pipeline.yaml"
    features = "  words: {kind: imported_transcripts, file: words.csv}\n"
    features += "  states: {kind: text, model: none, of: words}\n"
    path.write_text(path.read_text().replace("heads:\n", f"{features}heads:\n", 1))
    pipeline = Pipeline.load(path)
    [report] = extract_features(pipeline, ["words"], "cpu")
    assert (report.extracted, list(report.failed)) == (2, ["u1"])
    assert pipeline.resolved()["features"]["words"]["file"] == str(tmp_path / "words.csv")
    with pytest.raises(UserError, match=r"^features\.words: its transcripts were imported, and"):
        LiveFeatures(pipeline.features, ["states"], {}, "cpu")
