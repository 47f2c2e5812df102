"""train-all: files, resume, what makes a head stale, what stops it."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ser.cache.features import FeatureCache
from ser.cache.locks import locked
from ser.cache.logits import HeadLogits
from ser.corpus.errors import Note, UserError
from ser.corpus.manifest import Manifest
from ser.heads.job import HeadsJob
from ser.heads.run import HeadReport, Progress, current_heads, train_heads
from tests.damage import DAMAGES, damage_file, repair
from tests.heads.factories import (
    make_feature,
    make_job,
    make_manifest,
    make_view,
    names_done,
    train_three,
    with_ratings,
)
from tests.ser import warm


def is_current(job, name):
    return current_heads(job, [name]) == [name]


ONE = {"features": ["a", "b"]}
TWO = {"features": [{"name": "a", "stride": 2}], "loss": ["wce", "sml"]}


def test_every_head_leaves_its_files_and_is_current_afterwards(tmp_path):
    job = make_job(tmp_path, one=ONE, two=TWO)
    assert names_done(job, ["one", "two"]) == [("one", "trained"), ("two", "trained")]
    folder = job.run / "heads" / "one"
    assert {p.name for p in folder.iterdir()} == {
        "head.json",
        "head.safetensors",
        "history.csv",
        "logits.h5",
    }
    assert pl.read_csv(folder / "history.csv").height == 3
    assert names_done(job, ["one", "two"]) == [("one", "current"), ("two", "current")]
    assert names_done(job, ["one"], force=True) == [("one", "trained")]


def test_logits_say_who_was_trained_on(tmp_path):
    job = make_job(tmp_path, one=ONE)
    names_done(job, ["one"])
    logits = HeadLogits.read(job.run / "heads" / "one" / "logits.h5")
    assert logits.classes == job.manifest.classes
    assert {s: rows.rows for s, rows in logits.splits.items()} == {
        "train": "in-sample",
        "dev": "held-out",
        "test": "held-out",
    }
    for split, rows in logits.splits.items():
        assert rows.utterance == job.manifest.utterances(split)
        assert rows.label.tolist() == job.manifest.labels(rows.utterance).tolist()
        assert rows.speaker == job.manifest.column("speaker", rows.utterance)
    assert logits.features == {n: c.fingerprint for n, c in job.features.items()}


def test_a_changed_label_or_feature_makes_it_stale(tmp_path):
    job = make_job(tmp_path, one=ONE)
    names_done(job, ["one"])
    assert is_current(job, "one")
    frame = job.manifest.frame.with_columns(
        emotion=pl.when(pl.col("utterance") == "u3").then(pl.lit("sad")).otherwise("emotion")
    )
    relabelled = Manifest(frame, job.manifest.classes)
    assert not is_current(HeadsJob(job.run, job.configs, relabelled, job.features), "one")
    again = make_feature(tmp_path / "cache", "a", job.manifest, seed=99)
    assert not is_current(
        HeadsJob(job.run, job.configs, job.manifest, job.features | {"a": again}), "one"
    )


def test_failed_utterances_are_left_out_of_every_head(tmp_path):
    manifest = make_manifest()
    job = make_job(tmp_path, manifest, one={"features": ["a"]}, two={"features": ["c"]})
    third = make_feature(tmp_path / "cache", "c", manifest, skip=("u5",))
    third.record({"u5": "no such file"})
    job = HeadsJob(job.run, job.configs, manifest, job.features | {"c": third})
    names_done(job, ["one", "two"])
    for name in ("one", "two"):
        rows = HeadLogits.read(job.run / "heads" / name / "logits.h5").splits
        assert "u5" not in {u for split in rows.values() for u in split.utterance}


def test_an_utterance_that_is_neither_cached_nor_failed_stops_it(tmp_path):
    manifest = make_manifest()
    job = make_job(tmp_path, manifest, one=ONE)
    partial = make_feature(tmp_path / "cache", "c", manifest, skip=("u5",))
    job = HeadsJob(job.run, job.configs, manifest, job.features | {"c": partial})
    with pytest.raises(UserError, match=r"1 of 60 utterances are not cached \(u5\)"):
        list(train_heads(job, ["one"]))


def test_a_speaker_in_two_splits_stops_it(tmp_path):
    manifest = make_manifest()
    shared = Manifest(manifest.frame.with_columns(speaker=pl.lit("ann")), manifest.classes)
    with pytest.raises(UserError, match="ann"):
        list(train_heads(make_job(tmp_path, shared, one=ONE), ["one"]))


def test_a_head_that_cannot_be_trained_does_not_stop_the_others(tmp_path):
    manifest = make_manifest()
    more = Manifest(manifest.frame, (*manifest.classes, "fear"))
    wild = {"features": ["a"], "loss": ["ccc"]}
    reports = list(train_heads(make_job(tmp_path, more, one=ONE, wild=wild), ["one", "wild"]))
    assert [(r.name, r.done, r.score) for r in reports] == [
        ("one", "failed", None),
        ("wild", "failed", None),
    ]
    assert reports[0].error == (
        "class 'fear' has no training utterance; remove it from corpus.classes, or add clips of it "
        "to the train split."
    )
    assert reports[1].error == (
        "manifest: no utterance has a value for arousal, which a loss of the head learns; leave it "
        "out of `attributes:`, or fill in the column."
    )
    job = make_job(tmp_path, wild={"features": ["a"], "lr": 1e30}, two=TWO)
    assert names_done(job, ["wild", "two"]) == [("wild", "failed"), ("two", "trained")]
    assert not (job.run / "heads" / "wild" / "head.json").exists()


def test_progress_is_told_epoch_by_epoch(tmp_path):
    job = make_job(tmp_path, one=ONE | {"cross_fit": 2, "epochs": 2})
    told = []
    (report,) = train_heads(job, ["one"], after_epoch=told.append)
    assert [(p.head, p.fold, p.epoch, p.epochs) for p in told] == [
        ("one", 0, 1, 4),
        ("one", 0, 2, 4),
        ("one", 1, 3, 4),
        ("one", 1, 4, 4),
    ]
    assert isinstance(told[0], Progress)
    assert 0 <= told[0].score <= 1
    assert report == HeadReport("one", "trained", report.score, "macro_f1", 4, report.seconds)


TRAIN = """
import os, sys
from pathlib import Path
from tests.heads.factories import train_three
print(os.getpid(), flush=True)
train_three(Path(sys.argv[1]))
"""


def test_kill_9_and_again_gives_the_logits_of_an_uninterrupted_run(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_three(whole)
    command = [warm.folder() / "python", "-c", TRAIN, killed]
    process = subprocess.Popen(command, cwd=Path.cwd(), stdout=subprocess.PIPE)
    training = int(process.stdout.readline())
    while not list(killed.glob("run/heads/h1/head.json")):
        assert process.poll() is None
        time.sleep(0.01)
    with suppress(ProcessLookupError):  # it has finished
        os.kill(training, signal.SIGKILL)
    process.wait()
    assert train_three(killed)[:2] == [("h0", "current"), ("h1", "current")]
    for name in ("h0", "h1", "h2"):
        a, b = (
            HeadLogits.read(root / "run/heads" / name / "logits.h5") for root in (whole, killed)
        )
        for split, rows in a.splits.items():
            assert rows.logits.tolist() == b.splits[split].logits.tolist()


def test_a_head_whose_marker_is_missing_is_trained_again(tmp_path):
    job = make_job(tmp_path, one=ONE)
    names_done(job, ["one"])
    marker = job.run / "heads" / "one" / "head.json"
    assert json.loads(marker.read_text())["head"] == "one"
    marker.unlink()
    assert names_done(job, ["one"]) == [("one", "trained")]


@pytest.mark.parametrize("head", [ONE, {"features": ["a"], "cross_fit": 2, "epochs": 1}])
def test_any_damage_to_a_file_is_told_and_training_again_restores_its_bytes(tmp_path, head):
    job, rng = make_job(tmp_path, one=head), random.Random(7)
    names_done(job, ["one"])
    folder = job.run / "heads" / "one"
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    for path, content in whole.items():
        for damage in DAMAGES:
            damage_file(path, damage, rng)
            assert not is_current(job, "one"), (path.name, damage)
            repair(path, content)
    assert is_current(job, "one")
    for path in whole:
        damage_file(path, rng.choice(DAMAGES), rng)
        assert names_done(job, ["one"]) == [("one", "trained")]
        for other, content in whole.items():
            if other.name != "head.json":  # it has how long the training took
                assert other.read_bytes() == content


def test_a_head_of_an_older_version_has_no_checksums_and_is_still_current(tmp_path):
    job = make_job(tmp_path, one=ONE)
    names_done(job, ["one"])
    path = job.run / "heads" / "one" / "head.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({k: values[k] for k in values if k not in ("checksums", "crc32c")}))
    with pytest.warns(Note) as notes:
        assert is_current(job, "one")
        assert is_current(job, "one")
    assert [str(note.message) for note in notes] == [
        f"{job.run}: some files were made by an older version of ser and have no checksums, so "
        "damage to them may go unnoticed."
    ]
    (path.parent / "logits.h5").unlink()
    assert names_done(job, ["one"]) == [("one", "trained")]


def test_a_head_that_another_process_trains_is_left_to_it_and_the_others_go_on(tmp_path):
    job = make_job(tmp_path, one=ONE, two=TWO)
    names_done(job, ["two"])
    with locked(job.run / "heads" / "one" / ".lock", ""):
        busy, other = train_heads(job, ["one", "two"])
    assert (busy.done, other.done) == ("busy", "current")
    assert busy.error.startswith(f"head 'one' is being trained by process {os.getpid()} on ")
    assert names_done(job, ["one", "two"]) == [("one", "trained"), ("two", "current")]


def test_leftovers_of_a_kill_are_deleted_and_files_have_the_mode_of_the_umask(tmp_path):
    job = make_job(tmp_path, one=ONE)
    before = os.umask(0o027)
    try:
        names_done(job, ["one"])
    finally:
        os.umask(before)
    folder = job.run / "heads" / "one"
    names = {path.name for path in folder.iterdir()}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}
    for force in (False, True):
        left = (".lock", ".head.checkpoint", ".head.checkpoint.17", ".logits.h5.part")
        for name in (*left, ".head.json.elsewhere-5-0badcafe.part", ".head.safetensors.17"):
            (folder / name).touch()
        names_done(job, ["one"], force=force)
        assert {path.name for path in folder.iterdir()} == names


def weights(job, name):
    return (job.run / "heads" / name / "head.safetensors").read_bytes()


def logits_of(job, name):
    splits = HeadLogits.read(job.run / "heads" / name / "logits.h5").splits
    return {split: rows.logits.tolist() for split, rows in splits.items()}


@pytest.mark.parametrize(
    "head",
    [
        ONE,
        {"features": [{"name": "a", "stride": 2, "normalize": "corpus"}], "loss": ["wce", "sml"]}
        | {"sampler": "neutral_expressive"},
    ],
)
def test_no_draw_from_a_view_and_a_view_that_changes_nothing_give_the_bits_of_clean(tmp_path, head):
    manifest = make_manifest()
    folder = make_feature(tmp_path / "cache", "a", manifest).path
    copy = FeatureCache(Path(shutil.copytree(folder, tmp_path / "copy")))
    heads = {
        "clean": head,
        "never": head | {"views": ["noise"], "augmented": 0},
        "same": head | {"views": ["copy"], "augmented": 1},
        "noise": head | {"views": ["noise"], "augmented": 1},
    }
    noise = make_view(tmp_path / "cache", "a+noise", manifest)
    job = make_job(tmp_path, manifest, {"a": {"noise": noise, "copy": copy}}, **heads)
    assert job.features["a"].fingerprint == copy.fingerprint
    names_done(job, list(heads))
    for name in ("never", "same"):
        assert weights(job, name) == weights(job, "clean")
        assert logits_of(job, name) == logits_of(job, "clean")
    assert weights(job, "noise") != weights(job, "clean")


def test_a_fingerprint_is_of_what_is_said_and_not_of_defaults(tmp_path):
    job = make_job(tmp_path, one=ONE)
    names_done(job, ["one"])
    marker = json.loads((job.run / "heads" / "one" / "head.json").read_text())
    assert list(marker["made_from"]) == [
        "version",
        "config",
        "classes",
        "labels",
        "features",
        "rows",
    ]
    assert marker["made_from"]["config"] == {
        "features": [{"name": "a"}, {"name": "b"}],
        "head": "mean_mlp",
        "epochs": 3,
        "lr": 0.01,
        "batch": 8,
        "architecture": {"hidden": 8},
    }
    assert marker["config"]["schedule"] == "cosine"
    noise = make_view(tmp_path / "cache", "a+noise", job.manifest)
    assert is_current(replace(job, views={"a": {"noise": noise}}), "one")
    for same in ({"seed": 7}, {"sampler": "natural"}, {"log": "tensorboard"}):
        assert is_current(make_job(tmp_path, one=ONE | same), "one")
    for other in ({"seed": 8}, {"sampler": "undersample"}, {"loss": ["ce"]}, {"cross_fit": 2}):
        assert not is_current(make_job(tmp_path, one=ONE | other), "one")


def test_votes_attributes_and_genders_count_only_where_they_are_learned(tmp_path):
    rated = with_ratings(make_manifest())
    heads = {"hard": ONE, "soft": ONE | {"loss": ["kld"]}, "vad": ONE | {"loss": ["ccc"]}}
    job = make_job(tmp_path, rated, **heads)
    names_done(job, list(heads))

    def current(**columns):
        changed = Manifest(rated.frame.with_columns(**columns), rated.classes)
        return [n for n in heads if is_current(make_job(tmp_path, changed, **heads), n)]

    assert current(**{"votes.sad": pl.lit(1)}) == ["hard", "vad"]
    assert current(arousal=pl.lit(3.0)) == ["hard", "soft"]
    assert current(gender=pl.lit("f")) == ["hard", "soft", "vad"]


def test_a_changed_view_makes_the_heads_that_draw_from_it_stale(tmp_path):
    manifest = make_manifest()
    heads = {"one": ONE | {"views": ["noise"]}, "two": TWO}
    noise = make_view(tmp_path / "cache", "a+noise", manifest, skip=("u0",))
    job = make_job(tmp_path, manifest, {"a": {"noise": noise}}, **heads)
    assert names_done(job, ["one", "two"]) == [("one", "trained"), ("two", "trained")]
    assert names_done(job, ["one", "two"]) == [("one", "current"), ("two", "current")]
    others = manifest.utterances()[1:]
    u0 = make_feature(tmp_path / "cache", "a+noise", manifest, seed=9, skip=others)
    assert u0.path == noise.path
    filled = replace(job, views={"a": {"noise": u0}})
    assert names_done(filled, ["one", "two"]) == [("one", "trained"), ("two", "current")]
    dev = manifest.utterances("dev")
    others = [u for u in manifest.utterances() if u not in dev]
    more = make_feature(tmp_path / "cache", "a+noise", manifest, skip=others)
    assert is_current(replace(job, views={"a": {"noise": more}}), "one")  # dev is never drawn
    half = {"one": ONE | {"views": ["noise"], "augmented": 0.4}}
    assert not is_current(make_job(tmp_path, manifest, {"a": {"noise": more}}, **half), "one")


def test_a_clip_that_failed_in_a_view_only_is_not_left_out(tmp_path):
    manifest = make_manifest()
    noise = make_view(tmp_path / "cache", "a+noise", manifest, skip=("u5",))
    noise.record({"u5": "no such file"})
    one = ONE | {"views": ["noise"], "augmented": 1}
    job = make_job(tmp_path, manifest, {"a": {"noise": noise}}, one=one)
    names_done(job, ["one"])
    rows = HeadLogits.read(job.run / "heads" / "one" / "logits.h5").splits
    assert rows["train"].utterance == manifest.utterances("train")


def test_a_view_that_no_feature_of_the_head_has_is_said_before_any_work(tmp_path):
    manifest = make_manifest()
    noise = make_view(tmp_path / "cache", "a+noise", manifest)
    with pytest.raises(UserError) as error:
        make_job(
            tmp_path,
            manifest,
            {"a": {"noise": noise}},
            one=ONE,
            two={"features": ["b"], "views": ["noise"]},
        )
    assert str(error.value) == (
        "heads.two.views: none of its features has the view 'noise'; put it under `augment:` of "
        "one and extract it, or leave it out."
    )


def test_a_head_that_meets_damaged_frames_fails_and_the_others_are_trained(tmp_path):
    job = make_job(tmp_path, one={"features": ["a"]}, two={"features": ["b"]})
    sound = job.features["a"].path
    (file,) = sound.glob("data.zarr/*/frames/c/0/0")
    content = bytearray(file.read_bytes())
    content[1] ^= 64  # the exponent of a float16
    file.write_bytes(content)
    reports = {r.name: r for r in train_heads(job, ["one", "two"])}
    assert {name: r.done for name, r in reports.items()} == {"one": "failed", "two": "trained"}
    assert reports["one"].error == (
        f"{file}: the frames of 'u0' in feature 'a' are damaged (their crc32c differs); run `ser "
        "cache verify a --repair`, then `ser extract a`."
    )
    assert not is_current(job, "one")
