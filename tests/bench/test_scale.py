"""The inputs of `python -m bench.scale`: each command reads them as documented."""

from bench.scale import plan_epoch, train_all, write_corpus, write_epoch, write_heads, write_logits
from ser.commands.cache_info import cached_features
from ser.corpus.check import check
from ser.corpus.manifest import Manifest
from ser.pipeline.file import Pipeline
from ser.stack.run import fitted_model
from ser.stack.table import LogitTable
from ser.stages.heads import list_heads


def test_a_tenth_of_the_corpus_is_missing_and_nothing_else_is_wrong(tmp_path):
    write_corpus(tmp_path, 200)
    pipeline = Pipeline.load(tmp_path / "pipeline.yaml")
    (row,) = cached_features(str(pipeline.cache), pipeline)
    assert (row.utterances, row.missing, row.looked_at, row.expected) == (180, 20, 200, 200)
    manifest = Manifest.read(tmp_path / "m.parquet")
    assert check(manifest, manifest.audio_folder(), sample=10).problems.is_empty()


def test_heads_are_trained_and_an_epoch_can_be_planned(tmp_path):
    write_heads(tmp_path, 3)
    heads = list(list_heads(Pipeline.load(tmp_path / "pipeline.yaml")))
    trained = {head.head: head.trained for head in heads}
    assert trained == {"h0": "yes", "h1": "yes", "h2": "yes"}
    write_epoch(tmp_path, 70)
    plan_epoch(tmp_path)


def test_heads_are_trained_as_cores_and_memory_allow():
    assert train_all(1, 16, 0.6) == (1, 12)
    assert train_all(16, 16, 0.6) == (12, 1 + 1 / 30)  # eleven wait for the first one's epoch
    assert train_all(16, 128, 12) == (8, 2 + 1 / 30)  # 0.8 * 128 GB / 12 GB


def test_the_logits_of_twelve_heads_and_their_stack_can_be_reported(tmp_path):
    write_logits(tmp_path, 500)
    table = LogitTable.read(tmp_path / "run" / "heads")
    assert {split: len(rows.utterance) for split, rows in table.splits.items()} == {
        "dev": 132,
        "test": 17,
        "train": 351,
    }
    assert fitted_model(tmp_path / "run") == "mean_logits"
