import shutil

import polars as pl
import pytest

from ser.cache.transcripts import Transcript, TranscriptCache
from ser.corpus.errors import DamagedError
from ser.score.config import ScoreConfig
from ser.score.record import HeadSummary
from ser.score.report.contents import HARDEST, Shown, choose_shown, gather
from ser.score.run import score_run
from ser.score.scores import SystemScores
from tests.score.factories import system
from tests.score.report.conftest import CLASSES, NAUGHTY

FAST = ScoreConfig(resamples=20)


def test_the_head_that_is_best_on_dev_is_shown_on_test():
    metrics = {
        "dev": {"a": system(0.6), "b": system(0.5)},
        "test": {"a": system(0.1), "b": system(0.9)},
    }
    assert choose_shown(metrics, "macro_f1") == Shown("test", "a")
    assert choose_shown({"dev": metrics["dev"]}, "macro_f1") == Shown("dev", "a")
    assert choose_shown({"test": metrics["test"]}, "macro_f1") == Shown("test", "b")
    assert choose_shown(metrics, "ccc") is None
    metrics["test"]["stack"] = metrics["dev"]["stack"] = system(0.0)
    assert choose_shown(metrics, "macro_f1") == Shown("test", "stack")


def test_a_full_run_is_gathered(full):
    assert full.classifier == Shown("test", "stack")
    assert full.regressor == Shown("test", "good")
    assert list(full.heads) == ["good", "poor"]
    assert full.heads["good"].summary.epochs == 12
    assert full.heads["good"].history.height == 12
    assert full.agreement["system"].to_list() == ["good", "poor", "stack"]
    assert full.agreement.select("good", "poor", "stack").to_numpy().diagonal().tolist() == [1] * 3
    assert full.reliability["n"].sum() == 30


def test_the_hardest_are_those_whose_truth_is_least_probable(full):
    rows = pl.read_parquet(full.run / "stack" / "predictions.parquet")
    rows = rows.filter(pl.col("split") == "test")
    truth = {f"test{i}": CLASSES[i % 3] for i in range(30)}
    probability = {r["utterance"]: r[f"p.{truth[r['utterance']]}"] for r in rows.to_dicts()}
    ranked = sorted(probability, key=probability.__getitem__)[:HARDEST]
    hardest = full.hardest
    assert hardest["utterance"].to_list() == ranked
    assert hardest["probability"].to_list() == [probability[u] for u in ranked]
    assert hardest["emotion"].to_list() == [truth[u] for u in ranked]
    assert set(hardest["transcript"]) == {NAUGHTY}
    n = int(ranked[0].removeprefix("test"))
    assert hardest["audio"][0] == f"../audio/a%20clip.wav#t={n},{n + 1.5:g}"
    assert hardest["speaker"][0] == f"s{n // 6}"


def test_audio_that_is_not_there_has_no_link(full_run):
    run, heads, manifest = full_run()
    metrics = score_run(run, FAST, heads, manifest)
    (run / "audio" / "a clip.wav").unlink()
    assert (
        gather(run, metrics, heads, manifest, audio=run / "audio").hardest["audio"].is_null().all()
    )


def test_transcripts_are_the_manifests_or_else_the_cached_ones(full_run, tmp_path):
    run, heads, manifest = full_run()
    metrics = score_run(run, FAST, heads, manifest)
    first, second, *_ = gather(run, metrics, heads, manifest).hardest["utterance"]
    words = pl.when(pl.col("utterance") != first).then("transcript")
    manifest.frame = manifest.frame.with_columns(transcript=words)
    cache = TranscriptCache.create(tmp_path / "cache", "words", {"kind": "asr"}, {})
    with cache.writer() as writer:
        for utterance in (first, second):
            writer.append(utterance, Transcript("cached", -0.1, 0.0, "en"), 0, 0)
    hardest = gather(run, metrics, heads, manifest, transcripts=cache).hardest
    assert hardest["transcript"].to_list() == ["cached"] + [NAUGHTY] * (HARDEST - 1)


def test_logits_alone_are_enough(full_run):
    run, heads, _ = full_run()
    shutil.rmtree(run / "stack")
    for head in heads:
        for name in ("head.json", "history.csv"):
            (run / "heads" / head / name).unlink()
    contents = gather(run, score_run(run, FAST, heads), heads)
    assert contents.classifier == Shown("test", "good")
    assert contents.stack is None
    assert contents.heads["good"].summary == HeadSummary()
    assert contents.heads["good"].history is None
    assert contents.hardest["transcript"].is_null().all()


@pytest.mark.parametrize("text", ["x\n1,2\n", "x\n1\n"])
def test_damaged_learning_curves_are_one_sentence(full_run, text):
    run, heads, _ = full_run()
    file = run / "heads" / heads[0] / "history.csv"
    file.write_text(text)
    with pytest.raises(DamagedError) as error:
        gather(run, score_run(run, FAST, heads), heads)
    remedy = f"train the head again with `ser heads train {heads[0]} --force`"
    assert str(error.value) == f"{file}: it is not readable as CSV; {remedy}."


def test_a_run_without_labels_has_nothing_to_show(tmp_path, write_head):
    write_head("only", {"": ([[1, 0]], [-1])})
    contents = gather(tmp_path, score_run(tmp_path, FAST, ["only"]), ["only"])
    assert (contents.classifier, contents.regressor, contents.hardest) == (None, None, None)
    assert contents.scores == SystemScores()
