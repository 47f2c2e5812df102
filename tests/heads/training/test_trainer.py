"""Training: it learns, the best epoch is kept, the same seed gives the same bits."""

import numpy as np
import pytest
import torch

from cache.features import FeatureCache
from cache.reader import Column
from corpus.errors import UserError
from heads.config import parse_head
from heads.train import Labelled, Trainer
from heads.views import join_views
from tests.heads.factories import CLASSES, make_feature, make_manifest, make_view


def make_trainer(root, train=None, **options):
    manifest = make_manifest()
    caches = {n: make_feature(root, n, manifest, seed=i) for i, n in enumerate("ab")}
    views = {v: make_view(root, f"a+{v}", manifest) for v in options.get("views", ())}
    if views:
        caches = join_views(caches, {"a": views}, list(views), manifest.utterances("train"))
    columns = {name: Column(cache) for name, cache in caches.items()}
    entry = {"features": ["a", "b"], "hidden": 8, "epochs": 6, "lr": 1e-2, "batch": 8}
    rows = {s: manifest.utterances(s) for s in ("train", "dev")}
    labelled = {s: Labelled(us, manifest.labels(us)) for s, us in rows.items()}
    config = parse_head(entry | options)
    return Trainer(config, columns, CLASSES, train=train or labelled["train"], dev=labelled["dev"])


def test_it_learns_what_the_features_say(tmp_path):
    trained = make_trainer(tmp_path, epochs=12).fit()
    assert trained.best_macro_f1 > 0.9
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]


@pytest.mark.parametrize("head", ["attentive_stats", "mean_mlp", "conv_pool"])
@pytest.mark.parametrize("sampler", ["class_balanced", "undersample"])
def test_every_head_learns_by_every_sampler(tmp_path, head, sampler):
    options = {"head": head, "sampler": sampler, "hidden": 16, "dropout": 0.1}
    assert make_trainer(tmp_path, epochs=12, **options).fit().best_macro_f1 > 0.9


@pytest.mark.parametrize("loss", ["ce", "focal", "label_smoothing", "vs", "soft_f1"])
def test_every_loss_teaches(tmp_path, loss):
    options = {"head": "mean_mlp", "loss": [loss], "hidden": 16, "dropout": 0.1}
    trained = make_trainer(tmp_path, epochs=12, **options).fit()
    assert trained.best_macro_f1 > 0.9
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]


def test_undersample_steps_on_as_many_of_each_class(tmp_path):
    everyone = make_trainer(tmp_path).train
    few = np.flatnonzero(everyone.labels == 1)[:2]
    rows = np.sort(np.concatenate([few, np.flatnonzero(everyone.labels != 1)]))
    train = Labelled([everyone.utterances[i] for i in rows], everyone.labels[rows])
    trainer = make_trainer(tmp_path, train=train, sampler="undersample", views=["noise"])
    seen = steps(trainer, 0)
    assert sorted(label for *_, label in seen) == [0, 0, 1, 1, 2, 2]
    manifest = make_manifest()
    assert [label for *_, label in seen] == manifest.labels([u for u, *_ in seen]).tolist()


def test_the_best_epoch_is_kept(tmp_path):
    trainer = make_trainer(tmp_path, epochs=8, lr=0.05)
    trained = trainer.fit()
    scores = [row["dev_macro_f1"] for row in trained.history]
    assert trained.best_epoch == int(np.argmax(scores))
    assert trainer._dev_macro_f1() == pytest.approx(max(scores))


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path):
    def logits(seed):
        trainer = make_trainer(tmp_path, seed=seed, epochs=2)
        trainer.fit()
        return trainer.logits(["u0", "u7"])

    assert logits(1).tolist() == logits(1).tolist()
    assert logits(1).tolist() != logits(2).tolist()


def test_logits_follow_the_ids_and_not_the_batches(tmp_path):
    trainer = make_trainer(tmp_path, batch=2)
    names = [f"u{i}" for i in range(30)]
    forward = trainer.logits(names)
    backward = trainer.logits(names[::-1])
    alone = trainer.logits(["u4"])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-5)
    np.testing.assert_allclose(forward[4], alone[0], atol=1e-5)


def test_utterances_without_a_label_are_not_learned_from(tmp_path):
    everyone = make_trainer(tmp_path).train
    labels = everyone.labels.copy()
    labels[::2] = -1
    trainer = make_trainer(tmp_path, train=Labelled(everyone.utterances, labels))
    assert trainer.train.utterances == everyone.utterances[1::2]


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
        make_trainer(tmp_path, loss=["sml"], neutral="calm")


def test_normalize_uses_the_training_frames_and_is_saved_with_the_head(tmp_path):
    use = [{"name": "a", "normalize": "corpus"}, "b"]
    trainer = make_trainer(tmp_path, features=use, epochs=1)
    cache = trainer.columns["a"].cache
    frames = np.concatenate([cache.frames(u) for u in trainer.train.utterances]).astype("f8")
    state = trainer.module.state_dict()
    np.testing.assert_allclose(state["mean0"], frames.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["deviation0"], frames.std(0), rtol=1e-5)
    assert not any(key.startswith("mean1") for key in state)


def test_channels_of_wild_scales_are_learned_when_normalized(tmp_path):
    scale = np.array([1e4, 1.0, 1e-2, 1.0, 1.0, 1.0], np.float32)
    manifest = make_manifest()
    plain = make_feature(tmp_path, "plain", manifest)
    wild = FeatureCache.create(tmp_path, "wild", {"kind": "wild"}, {"item_shape": [6]})
    with wild.writer() as writer:
        for u in manifest.utterances():
            writer.append(u, plain.frames(u).astype("f4") * scale + 5 * scale, 1, 2)
    rows = {
        s: Labelled(manifest.utterances(s), manifest.labels(manifest.utterances(s)))
        for s in ("train", "dev")
    }
    columns = {"wild": Column(FeatureCache(wild.path))}

    def best(normalize):
        use = [{"name": "wild", "normalize": normalize}]
        entry = {"features": use, "hidden": 8, "epochs": 12, "lr": 1e-2, "batch": 8}
        config = parse_head(entry)
        return Trainer(config, columns, CLASSES, **rows).fit().best_macro_f1

    assert best("corpus") > 0.8
    assert best("none") < 0.6


def test_a_feature_with_all_layers_is_refused(tmp_path):
    manifest = make_manifest()
    column = Column(make_feature(tmp_path, "a", manifest))
    column.cache.item_shape = (3, 6)
    utterances = manifest.utterances("train")
    rows = Labelled(utterances, manifest.labels(utterances))
    with pytest.raises(UserError, match="feature 'a': it holds all layers"):
        Trainer(parse_head({"features": ["a"]}), {"a": column}, CLASSES, train=rows, dev=rows)


def steps(trainer, epoch):
    """Run an epoch; return the utterance, view and label of every draw, as the losses saw them."""
    seen = []

    def step(batch, labels):
        seen.extend(
            (*item.rpartition("\0")[::2], label)
            for item, label in zip(batch.utterances, labels.tolist(), strict=True)
        )
        return torch.zeros(())

    trainer._step = step
    trainer._epoch(epoch)
    return [(utterance, view, label) for view, utterance, label in seen]


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
    assert sorted(u for u, *_ in first) == sorted(trainer.train.utterances)
    assert first == steps(trainer, 0)
    assert {u: v for u, v, _ in first} != {u: v for u, v, _ in second}


def test_views_are_drawn_equally_and_as_often_as_asked(tmp_path):
    trainer = make_trainer(tmp_path, views=["noise", "speed", "mix"], augmented=0.3)
    drawn = np.bincount(trainer._draw_views(100_000, 0), minlength=4) / 100_000
    np.testing.assert_allclose(drawn, [0.7, 0.1, 0.1, 0.1], atol=0.005)
    for augmented, clean in ((0.0, 1.0), (1.0, 0.0)):
        only = make_trainer(tmp_path, views=["noise"], augmented=augmented)
        assert (only._draw_views(1000, 0) == 0).mean() == clean


def test_evaluation_reads_clean_features(tmp_path):
    augmented = make_trainer(tmp_path, views=["noise"], augmented=1.0, epochs=2)
    trained = augmented.fit()
    clean = make_trainer(tmp_path, epochs=2)
    everyone = make_manifest().utterances()
    clean.module.load_state_dict(trained.module.state_dict())
    assert augmented.logits(everyone).tolist() == clean.logits(everyone).tolist()
    assert trained.best_macro_f1 == clean._dev_macro_f1()


def test_normalize_takes_its_moments_from_clean_frames(tmp_path):
    use = {"features": [{"name": "a", "normalize": "corpus"}, "b"]}
    with_views = make_trainer(tmp_path, views=["noise"], augmented=1.0, **use).module.state_dict()
    without = make_trainer(tmp_path, **use).module.state_dict()
    assert all(torch.equal(with_views[key], without[key]) for key in ("mean0", "deviation0"))
