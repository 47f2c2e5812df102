import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus.errors import UserError
from ser.finetune.config import parse_finetune
from ser.finetune.joining import Join, Joins, averaged
from ser.finetune.run import fine_tune
from ser.heads.training.targets import Labelled, Targets
from ser.heads.training.trainer import Trainer
from tests.ser.finetune.factories import job, make_pipeline, make_tuner

COMMON, RARE = [f"common{i}" for i in range(12)], ["sad0", "sad1", "sad2", "fear0"]
TRAIN = Labelled([*COMMON, *RARE, "none"], np.array([0] * 12 + [1, 1, 1, 2, -1]))
VOTES = {"angry": (4, 0, 1), "sad": (0, 5, 1), "neutral": (1, 0, 3)}  # for angry, sad, neutral


def joins(chance=1.0, train=TRAIN, **options):
    said = {"model": "wavlm-large", "join": chance, "loss": ["kld"]}
    return Joins(parse_finetune("ft", said | options), train)


def joined_pipeline(folder, model="wavlm-layer", **options):
    """Write a pipeline that joins clips of a corpus of which most is neutral, voted and rated."""
    path = make_pipeline(folder, model, 45, **{"loss": "[kld, ccc]", "join": 1.0} | options)
    frame = pl.read_csv(folder / "m.csv")
    emotion = ["neutral" if i % 2 else e for i, e in enumerate(frame["emotion"])]
    frame.with_columns(
        pl.Series("emotion", emotion),
        *(pl.Series(f"votes.{e}", [VOTES[of][i] for of in emotion]) for i, e in enumerate(VOTES)),
        *(pl.Series(a, [1.0 + i % 7 for i in range(45)]) for a in ("arousal", "valence")),
        dominance=pl.lit(4.0),
    ).write_csv(folder / "m.csv")
    return path


def test_silence_is_in_between_and_an_overlap_is_the_sum():
    one, two = np.array([0.5, 0.25], np.float32), np.array([0.125, 0.25, 0.5], np.float32)
    silence = Join("two", True, 2).apply(one, two)
    assert silence.dtype == np.float32
    assert silence.tolist() == [0.5, 0.25, 0, 0, 0.125, 0.25, 0.5]
    assert Join("two", False, 1).apply(one, two).tolist() == [0.125, 0.25, 0.5, 0, 0.5, 0.25]
    assert Join("two", True, -1).apply(one, two).tolist() == [0.5, 0.375, 0.25, 0.5]
    # never longer than the shorter clip
    assert Join("two", False, -9).apply(one, two).tolist() == [0.125, 0.75, 0.75]
    # what would be beyond full scale is scaled down as a whole
    assert Join("two", True, -1).apply(one, 8 * two).tolist() == [0.125, 0.3125, 0.5, 1.0]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.booleans(), st.integers(-80, 80))
def test_the_length_is_known_before_and_nothing_is_lost(own, other, first, apart):
    join = Join("other", first, apart)
    joined = join.apply(np.full(own, 0.25, np.float32), np.full(other, 0.5, np.float32))
    assert len(joined) == join.samples(own, other) == own + other + max(apart, -min(own, other))
    assert joined.sum() == 0.25 * own + 0.5 * other


def test_common_clips_are_joined_with_rare_ones_of_even_classes():
    drawing = joins()
    drawn = [drawing.draw(u, epoch) for u in COMMON for epoch in range(200)]
    count = {u: sum(join.partner == u for join in drawn) for u in RARE}
    assert sum(count.values()) == len(drawn) == 2400
    assert count["fear0"] == pytest.approx(1200, abs=100)
    assert [count[f"sad{i}"] for i in range(3)] == pytest.approx([400] * 3, abs=80)
    assert np.mean([join.first for join in drawn]) == pytest.approx(0.5, abs=0.04)
    apart = np.array([join.gap for join in drawn]) / 16_000
    assert np.mean(apart < 0) == pytest.approx(0.5, abs=0.04)
    assert (apart.min(), apart.max()) == pytest.approx((-2, 2), abs=0.02)
    assert np.abs(apart).mean() == pytest.approx(1, abs=0.05)
    assert [drawing.draw(u, 0) for u in (*RARE, "none")] == [None] * 5


def test_draws_depend_on_seed_epoch_and_utterance():
    one = [joins().draw("common3", epoch) for epoch in range(5)]
    assert one == [joins().draw("common3", epoch) for epoch in range(5)]
    assert len(set(one)) == 5
    assert one != [joins(seed=8).draw("common3", epoch) for epoch in range(5)]
    half = joins(0.25)
    drawn = [half.draw(u, epoch) for u in COMMON for epoch in range(100)]
    assert np.mean([join is not None for join in drawn]) == pytest.approx(0.25, abs=0.04)
    assert joins(0.0).partners(TRAIN.utterances, 0).tolist() == list(range(17))


def test_targets_of_partners_are_averaged():
    nan = float("nan")
    targets = Targets(
        torch.eye(3),
        torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.5, 0.5], [0.1, 0.2, 0.7]]),
        torch.tensor([[2.0, 5.0], [4.0, nan], [1.1, 3.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
    )
    mean_targets = averaged(lambda at: targets.each(lambda rows: rows[at]), np.array([1, 1, 0]))
    means = mean_targets(np.array([0, 2]))
    assert means.classes.tolist() == [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]]
    assert means.votes[0].tolist() == [0.375, 0.375, 0.25]
    torch.testing.assert_close(means.votes[1], torch.tensor([0.425, 0.225, 0.35]))
    torch.testing.assert_close(
        means.attributes, torch.tensor([[3.0, nan], [1.55, 4.0]]), equal_nan=True
    )
    assert means.gender.tolist() == [[0.5, 0.5], [0.5, 0.0]]
    alone = averaged(lambda at: targets.each(lambda rows: rows[at]), np.arange(3))
    assert torch.equal(alone(np.array([2])).votes, targets.votes[2:])


def test_training_clips_are_joined_then_cropped_and_scored_clips_are_unchanged(tmp_path):
    clips = make_tuner(joined_pipeline(tmp_path)).data.clips
    utterance = next(u for u in clips.joins._common if clips.joins.draw(u, 0).gap > 0)
    join = clips.joins.draw(utterance, 0)
    joined = join.apply(clips.sources.load(utterance), clips.sources.load(join.partner))
    (batch,) = clips.batches([[utterance]], 0)
    np.testing.assert_array_equal(batch.inputs[0].numpy(), clips.encoder.prepare(joined)[0].inputs)
    assert clips.costs([utterance], 0).tolist() == [int(batch.sizes[0, 1])]
    (scored,) = clips.batches([[utterance]], None)
    clean = clips.encoder.prepare(clips.sources.load(utterance))[0].inputs
    np.testing.assert_array_equal(scored.inputs[0].numpy(), clean)
    short = make_tuner(joined_pipeline(tmp_path / "short", crop=0.4)).data.clips
    (cut,) = short.batches([[utterance]], 0)
    assert cut.inputs.shape[1] == 6400
    assert short.costs([utterance], 0).tolist() == [19]


def test_a_clip_with_an_unreadable_partner_is_left_out_of_training(tmp_path):
    clips = make_tuner(joined_pipeline(tmp_path)).data.clips
    utterance = min(clips.joins._common)
    partner = clips.joins.draw(utterance, 0).partner
    (tmp_path / "audio" / f"{partner}.wav").write_text("no audio")
    (batch,) = clips.batches([[utterance]], 0)
    assert not batch.usable[0]
    assert f"{partner}.wav" in clips.failed[utterance]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["wavlm-group", "whisper"])
def test_a_training_is_the_same_again_and_batches_do_not_matter(tmp_path, model):
    path = joined_pipeline(tmp_path, model, calm=True, epochs=2, lr=1e-5, batch=30)
    histories = [
        make_tuner(path, *way).fit().history
        for way in ([], [], ["finetune.ft.budget=400"], ["finetune.ft.join=0.0"])
    ]
    losses = [[row["train_loss"] for row in history] for history in histories]
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(losses[0], abs=1e-5)
    assert abs(losses[3][0] - losses[0][0]) > 1e-3
    whole, parts = (history[0]["padded_share"] for history in (histories[0], histories[3]))
    assert whole > parts  # joined clips of 0.6 to 3 s beside those of 0.3 to 0.7 s


@pytest.mark.slow
def test_interrupted_and_begun_again_it_has_the_same_curve(tmp_path, monkeypatch):
    monkeypatch.setattr("ser.heads.training.checkpoint.SECONDS", 0.0)  # after every step
    options = {"epochs": 2, "batch": 9, "crop": 1.5, "augment": "{noise: {}}"}
    fine_tune(job(joined_pipeline(tmp_path / "whole", **options)))
    broken = joined_pipeline(tmp_path / "broken", **options)
    own, steps = Trainer._step, []

    def step(*given):
        steps.append(1)
        if len(steps) == 5:  # of 6, three an epoch
            raise KeyboardInterrupt
        return own(*given)

    monkeypatch.setattr(Trainer, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(job(broken))
    fine_tune(job(broken))
    assert len(steps) == 7  # the fifth once more
    one, other = (tmp_path / name / "run" / "heads" / "ft" for name in ("whole", "broken"))
    assert (one / "history.csv").read_text() == (other / "history.csv").read_text()


def test_without_it_what_was_made_before_is_current(tmp_path):
    path = joined_pipeline(tmp_path, join=0.0)
    assert fine_tune(job(path)).done == "trained"
    marker = tmp_path / "run" / "heads" / "ft" / "head.json"
    assert "join" not in json.loads(marker.read_text())["made_from"]["model"]
    assert fine_tune(job(path, "finetune.ft.join=0.5")).done == "trained"
    assert json.loads(marker.read_text())["made_from"]["model"]["join"] == 0.5


def test_classes_of_one_size_are_refused():
    even = TRAIN.take([0, 1, 2, 12, 13, 14])
    with pytest.raises(UserError) as raised:
        joins(train=even)
    assert str(raised.value) == (
        "finetune: join: no class of the training split has more clips than another, so there is "
        "nothing to join; remove `join`."
    )
    assert joins(0.0, even).draw("common0", 0) is None


@pytest.mark.parametrize("loss", ["[wce]", "[kld, wce]", "[soft_ce, sml]", "[ccc]"])
def test_other_losses_of_classes_are_refused(tmp_path, loss):
    with pytest.raises(UserError) as raised:
        job(make_pipeline(tmp_path, loss=loss, join=0.5))
    assert str(raised.value).endswith(
        ":5: finetune.ft: join: joined clips have two classes, which only kld and soft_ce "
        "can learn; set the loss to one of these."
    )


def test_words_are_not_joined(tmp_path):
    with pytest.raises(UserError, match="no waveform: leave out augment, join and feature_encoder"):
        job(make_pipeline(tmp_path, "roberta", loss="[kld]", join=0.5))
