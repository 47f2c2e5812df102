"""Training: it learns, the best epoch is kept, the same seed gives the same bits."""

import numpy as np
import polars as pl
import pytest
import torch

from ser.cache.features import FeatureCache
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.heads.config import parse_head
from ser.heads.training.cached import head_trainer
from ser.heads.training.checkpoint import Checkpoint
from ser.heads.training.reading import Reading
from ser.heads.training.schedule import epochs
from ser.heads.training.targets import labelled
from ser.heads.training.task import Task
from ser.heads.training.trainer import Curve
from tests.heads.factories import CLASSES, make_feature, make_manifest, make_trainer, with_ratings


def test_it_learns_the_classes_of_the_features(tmp_path):
    trained = make_trainer(tmp_path, epochs=12).fit()
    assert trained.best_score > 0.9
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]


HEADS = ["attentive_stats", "conv_pool", "early_mha", "expert_lstm", "mdat"]
UNDERSAMPLED = [(head, "undersample") for head in (*HEADS, "deep_fusion")]


@pytest.mark.parametrize(
    ("head", "sampler"),
    [
        *((head, "class_balanced") for head in (*HEADS, "mean_mlp")),
        ("mean_mlp", "undersample"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("deep_fusion", "class_balanced"), *UNDERSAMPLED)
        ),
    ],
)
def test_every_head_learns_by_every_sampler(tmp_path, head, sampler):
    options = {"head": head, "sampler": sampler, "hidden": 16, "dropout": 0.1}
    options |= {"lr": 1e-3} if head in ("deep_fusion", "mdat") else {}  # of 2048 wide layers
    assert make_trainer(tmp_path, epochs=12, **options).fit().best_score > 0.8


@pytest.mark.parametrize("loss", ["ce", "focal", "label_smoothing", "vs", "soft_f1"])
def test_every_loss_trains(tmp_path, loss):
    options = {"head": "mean_mlp", "loss": [loss], "hidden": 16, "dropout": 0.1}
    trained = make_trainer(tmp_path, epochs=12, **options).fit()
    assert trained.best_score > 0.9
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]


def without_class(manifest, utterances):
    """Take the emotion of some utterances away."""
    unsure = pl.col("utterance").is_in(list(utterances))
    emotion = pl.when(unsure).then(None).otherwise("emotion").alias("emotion")
    return Manifest(manifest.frame.with_columns(emotion), manifest.classes)


def test_undersample_steps_on_as_many_of_each_class(tmp_path):
    train = make_manifest().utterances("train")
    sad = [u for u in train if make_manifest().labels([u])[0] == 1]
    manifest = without_class(make_manifest(), sad[2:])
    trainer = make_trainer(tmp_path, manifest, sampler="undersample", views=["noise"])
    seen = steps(trainer, 0)
    assert sorted(label for *_, label in seen) == [0, 0, 1, 1, 2, 2]
    assert [label for *_, label in seen] == manifest.labels([u for u, *_ in seen]).tolist()


def test_the_best_epoch_is_kept(tmp_path):
    trainer = make_trainer(tmp_path, epochs=8, lr=0.05)
    trained = trainer.fit()
    scores = [row["dev_macro_f1"] for row in trained.history]
    assert trained.best_epoch == int(np.argmax(scores))
    assert trainer.dev_scores(trainer.task.config)["dev_macro_f1"] == pytest.approx(max(scores))


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path):
    def logits(seed):
        trainer = make_trainer(tmp_path, seed=seed, epochs=2)
        trainer.fit()
        return trainer.predict(["u0", "u7"])["logits"]

    assert logits(1).tolist() == logits(1).tolist()
    assert logits(1).tolist() != logits(2).tolist()


def test_logits_follow_the_ids_and_not_the_batches(tmp_path):
    trainer = make_trainer(tmp_path, batch=2)
    names = [f"u{i}" for i in range(30)]
    forward = trainer.predict(names)["logits"]
    backward = trainer.predict(names[::-1])["logits"]
    alone = trainer.predict(["u4"])["logits"]
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-5)
    np.testing.assert_allclose(forward[4], alone[0], atol=1e-5)


def test_utterances_without_a_label_are_not_learned_from(tmp_path):
    train = make_manifest().utterances("train")
    trainer = make_trainer(tmp_path, without_class(make_manifest(), train[::2]))
    assert trainer.task.train.utterances == train[1::2]


def test_the_learning_rate_follows_the_cosine(tmp_path):
    trainer = make_trainer(tmp_path, epochs=4, lr=1e-2, lr_min=2e-3)
    rates = [row["lr"] for row in trainer.fit().history]
    by_torch = torch.optim.SGD([torch.zeros(1)], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(by_torch, 4, eta_min=2e-3)
    for rate in rates:
        assert rate == pytest.approx(schedule.get_last_lr()[0])
        by_torch.step()
        schedule.step()


def test_sml_trains_and_needs_a_neutral_class(tmp_path):
    trained = make_trainer(
        tmp_path, loss=["wce", "sml"], sampler="neutral_expressive", epochs=2
    ).fit()
    assert len(trained.history) == 2
    with pytest.raises(UserError, match="need the class 'calm', which is not among"):
        make_trainer(tmp_path, loss=["wce", "sml"], neutral="calm")


def test_normalize_uses_the_training_frames_and_is_saved_with_the_head(tmp_path):
    use = [{"name": "a", "normalize": "corpus"}, "b"]
    trainer = make_trainer(tmp_path, features=use, epochs=1)
    cache = trainer.data.reading.columns["a"].cache
    frames = np.concatenate([cache.frames(u) for u in trainer.task.train.utterances]).astype("f8")
    state = trainer.module.state_dict()
    np.testing.assert_allclose(state["inputs.0.mean"], frames.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["inputs.0.deviation"], frames.std(0), rtol=1e-5)
    assert not any(key.startswith("inputs.1") for key in state)


def test_channels_of_wild_scales_are_learned_when_normalized(tmp_path):
    scale = np.array([1e4, 1.0, 1e-2, 1.0, 1.0, 1.0], np.float32)
    manifest = make_manifest()
    plain = make_feature(tmp_path, "plain", manifest)
    wild = FeatureCache.create(tmp_path, "wild", {"kind": "wild"}, {"item_shape": [6]})
    with wild.writer() as writer:
        for u in manifest.utterances():
            writer.append(u, plain.frames(u).astype("f4") * scale + 5 * scale, 1, 2)

    def best(normalize):
        use = [{"name": "wild", "normalize": normalize}]
        entry = {"features": use, "hidden": 8, "epochs": 12, "lr": 1e-2, "batch": 8}
        config = parse_head(entry)
        rows = {s: labelled(config, manifest, manifest.utterances(s)) for s in ("train", "dev")}
        reading = Reading.of(config, {"wild": FeatureCache(wild.path)}, {})
        return head_trainer(Task.of(config, manifest.classes, **rows), reading).fit().best_score

    assert best("corpus") > 0.8
    assert best("none") < 0.6


def run_epoch(trainer, epoch):
    """Run an epoch; return its row of the history."""
    return trainer._epoch(epochs(trainer.task.config)[epoch], Curve(), Checkpoint(None))


def steps(trainer, epoch):
    """Run an epoch; return the utterance, view and label of every draw, as the losses saw them."""
    clips, seen = [], []
    batches, step = trainer.data.batches, trainer._step

    def read(plan):
        clips.extend(plan)
        return batches(plan)

    def stepped(stage, parts):
        seen.extend(
            (*clip, int(label))
            for part in parts
            for clip, label in zip(clips.pop(0), part.targets.classes.argmax(1), strict=True)
        )
        return torch.zeros(())

    trainer.data.batches, trainer._step = read, stepped
    run_epoch(trainer, epoch)
    trainer.data.batches, trainer._step = batches, step
    return seen


@pytest.mark.parametrize("sampler", ["natural", "neutral_expressive"])
def test_a_draw_from_a_view_has_the_label_of_its_utterance(tmp_path, sampler):
    trainer = make_trainer(tmp_path, views=["noise", "speed"], augmented=0.7, sampler=sampler)
    seen = [draw for epoch in range(4) for draw in steps(trainer, epoch)]
    assert {view for _, view, _ in seen} == {"", "noise", "speed"}
    manifest = make_manifest()
    assert [label for *_, label in seen] == manifest.labels([u for u, *_ in seen]).tolist()


def test_an_epoch_with_views_draws_the_utterances_it_draws_without(tmp_path):
    trainer = make_trainer(tmp_path, views=["noise", "speed"])
    first, second = steps(trainer, 0), steps(trainer, 1)
    assert sorted(u for u, *_ in first) == sorted(trainer.task.train.utterances)
    assert first == steps(trainer, 0)
    assert {u: v for u, v, _ in first} != {u: v for u, v, _ in second}


def test_views_are_drawn_equally_and_as_often_as_configured(tmp_path):
    trainer = make_trainer(tmp_path, views=["noise", "speed", "mix"], augmented=0.3)
    rng = np.random.default_rng(0)
    drawn = np.bincount(trainer.data.draw_views(100_000, rng), minlength=4) / 100_000
    np.testing.assert_allclose(drawn, [0.7, 0.1, 0.1, 0.1], atol=0.005)
    for augmented, clean in ((0.0, 1.0), (1.0, 0.0)):
        only = make_trainer(tmp_path, views=["noise"], augmented=augmented)
        assert (only.data.draw_views(1000, rng) == 0).mean() == clean


def test_evaluation_reads_clean_features(tmp_path):
    augmented = make_trainer(tmp_path, views=["noise"], augmented=1.0, epochs=2)
    trained = augmented.fit()
    clean = make_trainer(tmp_path, epochs=2)
    everyone = make_manifest().utterances()
    clean.module.load_state_dict(trained.module.state_dict())
    assert (
        augmented.predict(everyone)["logits"].tolist() == clean.predict(everyone)["logits"].tolist()
    )
    assert trained.best_score == clean.dev_scores(clean.task.config)["dev_macro_f1"]


def test_normalize_takes_its_moments_from_clean_frames(tmp_path):
    use = {"features": [{"name": "a", "normalize": "corpus"}, "b"]}
    with_views = make_trainer(tmp_path, views=["noise"], augmented=1.0, **use).module.state_dict()
    without = make_trainer(tmp_path, **use).module.state_dict()
    assert all(
        torch.equal(with_views[key], without[key])
        for key in ("inputs.0.mean", "inputs.0.deviation")
    )


def test_every_target_is_learned_at_once(tmp_path):
    manifest = with_ratings(make_manifest(), unsure=("u0", "u1"))
    losses = ["wce", "kld", "soft_ce", "ccc", "gender", "sml"]
    options = {"loss": losses, "votes": {"other": "keep", "dropout": 0.2}, "epochs": 20}
    trainer = make_trainer(tmp_path, manifest, no_consensus="keep", **options)
    assert "u0" in trainer.task.train.utterances
    assert trainer.task.outputs == {
        "logits": 3,
        "other": 1,
        "neutral_logit": 1,
        "attributes": 3,
        "gender": 2,
    }
    trained = trainer.fit()
    last = trained.history[-1]
    assert trained.best_score > 0.9
    assert last["dev_ccc"] > 0.5  # of three: dominance never changes, its CCC is 0
    assert last["train_loss"] < trained.history[0]["train_loss"]


def test_attributes_are_learned_alone_and_chosen_by_ccc(tmp_path):
    manifest = with_ratings(make_manifest())
    options = {"attributes": ["arousal", "valence"], "head": "mean_mlp", "hidden": 16}
    trainer = make_trainer(tmp_path, manifest, loss=["ccc"], epochs=15, lr=0.03, **options)
    trained = trainer.fit()
    assert trained.best_score == max(row["dev_ccc"] for row in trained.history) > 0.8
    assert "dev_macro_f1" not in trained.history[0]
    prediction = trainer.predict(["u0"])["attributes"]
    assert prediction.shape == (1, 2)
    assert 1 < prediction.min() < prediction.max() < 7


def test_phases_follow_one_another_each_with_its_own_rate_and_sampler(tmp_path):
    phases = [
        {"epochs": 2, "lr": 1e-2, "lr_min": 1e-2},
        {"epochs": 3, "sampler": "undersample", "lr": 1e-3, "schedule": "constant", "loss": ["ce"]},
    ]
    history = make_trainer(tmp_path, phases=phases).fit().history
    assert [row["epoch"] for row in history] == [0, 1, 2, 3, 4]
    assert [row["lr"] for row in history] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-3])


def test_it_stops_when_no_better_epoch_comes(tmp_path):
    trained = make_trainer(tmp_path, patience=2, epochs=60, lr=0.05).fit()
    assert len(trained.history) == trained.best_epoch + 3 < 60


@pytest.mark.parametrize("score", ["macro_f1", "uar", "accuracy", "loss"])
def test_the_best_epoch_is_chosen_by_the_configured_score(tmp_path, score):
    trained = make_trainer(tmp_path, best_by=score, epochs=8, lr=0.05).fit()
    values = [row[f"dev_{score}"] for row in trained.history]
    best = min(values) if score == "loss" else max(values)
    assert trained.best_score == best == values[trained.best_epoch]
    assert trained.best_epoch == values.index(best)


def test_averaged_weights_are_the_ones_kept(tmp_path):
    plain, averaged = make_trainer(tmp_path), make_trainer(tmp_path, ema=0.5)
    steps_of_an_epoch = []
    update = averaged.averaged.update_parameters

    def watched(module):
        update(module)
        steps_of_an_epoch.append([p.detach().clone() for p in module.parameters()])

    averaged.averaged.update_parameters = watched
    run_epoch(averaged, 0)
    run_epoch(plain, 0)
    for own, other in zip(plain.module.parameters(), averaged.module.parameters(), strict=True):
        assert torch.equal(own, other)
    expected = [p.clone() for p in steps_of_an_epoch[0]]
    for step in steps_of_an_epoch[1:]:
        expected = [0.5 * e + 0.5 * p for e, p in zip(expected, step, strict=True)]
    for kept, mean in zip(averaged.kept.parameters(), expected, strict=True):
        torch.testing.assert_close(kept.detach(), mean)


@pytest.mark.parametrize("losses", [["wce"], ["ccc", "soft_f1"], ["kld", "sml", "focal"]])
def test_accumulation_is_the_step_of_the_large_batch(tmp_path, losses):
    manifest = with_ratings(make_manifest(), unsure=("u0",))
    options = {"loss": losses, "no_consensus": "keep", "dropout": 0.0, "epochs": 1}
    large = make_trainer(tmp_path, manifest, batch=64, **options)
    small = make_trainer(tmp_path, manifest, batch=8, accumulate=8, **options)
    small.module.load_state_dict(large.module.state_dict())
    a, b = run_epoch(large, 0), run_epoch(small, 0)
    assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-5)
    for one, other in zip(large.module.parameters(), small.module.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_a_gradient_is_clipped_to_the_configured_norm(tmp_path):
    trainer = make_trainer(tmp_path, clip=1e-3, batch=64)
    run_epoch(trainer, 0)
    norm = torch.stack([p.grad.norm() for p in trainer.module.parameters()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_not_finite_is_reported(tmp_path):
    trainer = make_trainer(tmp_path, lr=1e30, epochs=4)
    with pytest.raises(UserError, match=r"^the loss is (nan|inf) at step \d of epoch \d; set"):
        trainer.fit()


@pytest.mark.parametrize("step", [1, 5, 8, 9])
def test_a_training_resumes_from_its_checkpoint_bit_for_bit(tmp_path, monkeypatch, step):
    monkeypatch.setattr("ser.heads.training.checkpoint.SECONDS", 0.0)  # after every step
    options = {"ema": 0.9, "augment": {"mixup": 0.5, "seqaug": 0.5}, "epochs": 3, "accumulate": 2}
    options["sampler"] = {"name": "class_balanced", "weights": "to_uniform"}
    options["new_optimizer"] = True
    whole = make_trainer(tmp_path, **options)
    history = whole.fit().history
    broken = make_trainer(tmp_path, **options)
    run, done = broken._step, []

    def stopped(stage, batches):
        done.append(1)
        if len(done) > step:  # of 9, three an epoch
            raise KeyboardInterrupt
        return run(stage, batches)

    broken._step = stopped
    monkeypatch.setattr(Task, "scores", interrupted_after(done, 9))
    with pytest.raises(KeyboardInterrupt):
        broken.fit(checkpoint=Checkpoint(tmp_path / "checkpoint", "f"))
    monkeypatch.undo()
    rows = []
    again = make_trainer(tmp_path, **options)
    trained = again.fit(rows.append, Checkpoint(tmp_path / "checkpoint", "f"))
    assert trained.history == rows == history
    names = make_manifest().utterances()
    assert again.predict(names)["logits"].tolist() == whole.predict(names)["logits"].tolist()


def interrupted_after(steps, last):
    """Return the scores of dev as they are, but interrupt after the last step of a training."""
    scores = Task.scores

    def interrupted(task, stage, rows, outputs):
        if len(steps) == last:
            raise KeyboardInterrupt
        return scores(task, stage, rows, outputs)

    return interrupted


def test_a_checkpoint_of_another_version_is_reported_and_not_read(tmp_path, monkeypatch, caplog):
    path = tmp_path / "checkpoint"
    Checkpoint(path, "f").write({"step": 3})
    assert Checkpoint(path, "f").read() == {"step": 3}
    assert Checkpoint(path, "g").read() is None
    monkeypatch.setattr("ser.heads.training.checkpoint.VERSION", 3)
    assert Checkpoint(path, "f").read() is None
    assert [r.getMessage() for r in caplog.records] == [
        f"{path}: the unfinished training is of another version of ser, so it starts again."
    ]


def test_weights_of_a_sampler_move_from_epoch_to_epoch(tmp_path):
    rows = make_manifest().frame.to_dicts()
    for row in rows[::2]:  # else every class is as frequent, and there is nothing to balance
        row["emotion"] = CLASSES[0]
    manifest = Manifest(pl.DataFrame(rows), CLASSES)
    fixed, moving = (
        make_trainer(
            tmp_path / weights,
            manifest,
            epochs=2,
            sampler={"name": "class_balanced", "weights": weights},
        ).fit()
        for weights in ("constant", "to_uniform")
    )
    assert moving.history[0] == fixed.history[0]
    assert moving.history[1]["train_loss"] != fixed.history[1]["train_loss"]


def test_a_new_optimizer_counts_the_steps_of_the_last_epoch_alone(tmp_path):
    def steps(new):
        phases = [{"epochs": 1}, {"epochs": 2, "new_optimizer": new}]
        trainer = make_trainer(tmp_path / str(new), phases=phases)
        trainer.fit()
        return {int(state["step"]) for state in trainer.optimizer.state.values()}

    (kept,), (new,) = steps(False), steps(True)
    assert kept == 3 * new


def test_normalize_speaker_makes_every_speaker_standard(tmp_path):
    use = [{"name": "a", "normalize": "speaker"}, "b"]
    trainer = make_trainer(tmp_path, features=use)
    names = [u for u in make_manifest().utterances() if int(u[1:]) % 10 == 3]
    (batch,) = trainer.data.batches([names])
    raw = batch.frames["a"].clone()
    frames, mask = trainer.data.reading.features(batch, torch.device("cpu"))["a"]
    cache, weight = trainer.data.reading.columns["a"].cache, len(names) / (len(names) + 2)
    own, corpus = cache.moments(names), cache.moments(trainer.task.train.utterances)
    mean, deviation = (weight * a + (1 - weight) * b for a, b in zip(own, corpus, strict=True))
    expected = (raw[mask].numpy() - mean) / deviation
    np.testing.assert_allclose(frames[mask].numpy(), expected, atol=1e-4)
    assert abs(frames[mask].mean()) < abs(((raw[mask].numpy() - corpus[0]) / corpus[1]).mean())
    # the module keeps the statistics of its training clips, and leaves the scores as they are
    np.testing.assert_allclose(trainer.module.moments_of("a"), corpus, rtol=1e-6)
    assert torch.equal(trainer.module.inputs[0](frames), frames)


@pytest.mark.parametrize("head", ["mean_mlp", "attentive_stats"])
def test_a_standardised_embedding_is_standard_over_the_training_clips(tmp_path, head):
    trainer = make_trainer(tmp_path, head=head, standardize=True, ema=0.5, epochs=2)
    collected = []
    trainer.module.head.standard.register_forward_hook(lambda _, given, out: collected.append(out))
    trainer.averaged = None
    trainer.predict(trainer.task.train.utterances)
    standard = torch.cat(collected)
    assert float(standard.mean(0).abs().max()) < 1e-5
    torch.testing.assert_close(standard.std(0, correction=0), torch.ones(standard.shape[1]))
    again = make_trainer(tmp_path, head=head, standardize=True, ema=0.5, epochs=2)
    state = again.fit().module.state_dict()
    assert torch.equal(state["head.standard.mean"], trainer.module.head.standard.mean)


def test_the_last_epoch_is_kept_on_request(tmp_path):
    trained = make_trainer(tmp_path, keep="last", epochs=7, lr=0.05).fit()
    assert trained.best_epoch == 6
    assert trained.best_score == trained.history[6]["dev_macro_f1"]


def test_layers_are_summed_or_kept_side_by_side(tmp_path):
    manifest, rng = make_manifest(), np.random.default_rng(0)
    cache = FeatureCache.create(tmp_path, "all", {"kind": "all"}, {"item_shape": [3, 4]})
    with cache.writer() as writer:
        for u, label in zip(
            manifest.utterances(), manifest.labels(manifest.utterances()), strict=True
        ):
            frames = rng.standard_normal((5, 3, 4)).astype("f4")
            frames[:, 1, label] += 3
            writer.append(u, frames, 1, 2)
    use = {"name": "all", "normalize": "corpus"}

    def trainer(**more):
        entry = {"head": "mean_mlp", "features": [use | more], "hidden": 16, "lr": 1e-2, "batch": 8}
        config = parse_head(entry | {"epochs": 15})
        rows = {s: labelled(config, manifest, manifest.utterances(s)) for s in ("train", "dev")}
        reading = Reading.of(config, {"all": FeatureCache(cache.path)}, {})
        return head_trainer(Task.of(config, manifest.classes, **rows), reading)

    summed = trainer()
    assert summed.module.state_dict()["inputs.0.layer_weights"].tolist() == [0.0] * 3
    assert summed.fit().best_score > 0.8
    assert summed.module.inputs[0].layer_weights.argmax() == 1
    both = trainer(layer=[1, -1])
    assert both.module.state_dict()["inputs.0.mean"].shape == (8,)
    assert both.fit().best_score > 0.9 > trainer(layer=2).fit().best_score
