"""A job is of one moment: what it finds in the caches, it finds once."""

from collections import Counter

import ser.heads.job
from ser.engines.heads import RunTraining, Training, train_runs
from ser.pipeline.file import Origin
from tests.heads.factories import make_job, make_manifest, make_view


def test_rows_labels_and_spec_are_found_once_on_the_way_to_the_trainer(tmp_path, monkeypatch):
    calls = Counter()

    def counted(name):
        function = getattr(ser.heads.job, name)

        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        return call

    for name in ("usable_utterances", "by_split", "labels_digest", "fingerprint"):
        monkeypatch.setattr(ser.heads.job, name, counted(name))
    manifest = make_manifest()
    views = {"a": {"noise": make_view(tmp_path / "cache", "a+noise", manifest)}}
    job = make_job(
        tmp_path, manifest, views, one={"features": ["a", "b"], "views": ["noise"], "epochs": 1}
    )
    run = RunTraining(job, ["one"], Training(Origin("pipeline.yaml"), "cpu"))
    assert [r.done for r in train_runs([run], 1)] == ["trained"]
    assert [r.done for r in train_runs([run], 1)] == ["current"]
    assert set(calls.values()) == {1} and len(calls) == 4
