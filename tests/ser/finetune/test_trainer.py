import numpy as np
import pytest
import torch

from tests.ser.finetune.factories import make_pipeline, make_tuner

TRAIN = 36  # clips of a corpus of 54


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a pipeline of a layer-norm model in which nothing is random."""
    folder = tmp_path_factory.mktemp("corpus")
    return make_pipeline(folder, "wav2vec2-layer", 54, calm=True, lr=1e-5, batch=TRAIN)


def stepped(corpus, *overrides, loss="[wce]"):
    """Train one epoch; return its first moments, which are a tenth of the gradient, and weights."""
    tuner = make_tuner(corpus, f"finetune.ft.loss={loss}", *overrides)
    trained = tuner.fit()
    moments = [state["exp_avg"] for state in tuner.optimizer.state.values()]
    return moments, dict(trained.module.named_parameters()), trained.history


@pytest.mark.parametrize("loss", ["[wce]", "[soft_f1]", "[ce, soft_f1]"])
def test_many_small_batches_are_the_one_large_batch(corpus, loss):
    whole, weights, history = stepped(corpus, loss=loss)
    ways = (
        ["finetune.ft.batch=9", "finetune.ft.accumulate=4"],
        ["finetune.ft.budget=120"],  # frames; about 4 clips of 0.5 s
    )
    for way in ways:
        parts, again, lines = stepped(corpus, *way, loss=loss)
        for one, other in zip(whole, parts, strict=True):
            torch.testing.assert_close(other, one, atol=1e-7, rtol=1e-4)
        for name, value in weights.items():
            assert float((again[name] - value).detach().abs().max()) <= 1e-6, name
        assert lines[0]["train_loss"] == pytest.approx(history[0]["train_loss"], abs=1e-6)


def test_parts_are_within_the_budget(corpus):
    tuner = make_tuner(corpus, "finetune.ft.budget=60", "finetune.ft.accumulate=2")
    lengths = tuner.clips.costs(tuner.train.utterances, 0)
    rows = np.argsort(lengths).tolist()
    shares = tuner._shares([rows[:20], rows[20:]], lengths)
    assert [row for share in shares for row in share.rows] == rows
    frames = [max(lengths[share.rows]) * len(share.rows) for share in shares]
    assert max(frames) <= 60
    assert len(shares) < TRAIN


def test_a_training_is_the_same_bits_again(corpus):
    overrides = ["finetune.ft.batch=12", "finetune.ft.augment={noise: {}, speed: {}}"]
    overrides += ["finetune.ft.crop=0.35", "finetune.ft.epochs=2", "finetune.ft.clip=1.0"]
    (_, one, history), (_, other, again) = (stepped(corpus, *overrides) for _ in range(2))
    assert history == again
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_rates_run_by_the_schedule_and_the_layer(corpus):
    tuner = make_tuner(
        corpus, "finetune.ft.layer_decay=0.5", "finetune.ft.epochs=2", "finetune.ft.lr=0.001"
    )
    history = tuner.fit().history
    assert [row["lr"] for row in history] == pytest.approx([1e-3, (1e-3 + 1e-6) / 2])
    rates = [group["lr"] / history[-1]["lr"] for group in tuner.optimizer.param_groups]
    assert rates == pytest.approx([0.25, 0.5, 1.0, 1.0])


def test_early_stopping_keeps_the_best_epoch(corpus):
    tuner = make_tuner(
        corpus, "finetune.ft.epochs=9", "finetune.ft.patience=1", "finetune.ft.lr=1e-12"
    )
    trained = tuner.fit()  # nothing gets better at such a rate
    assert (len(trained.history), trained.best_epoch) == (2, 0)
    assert trained.best_score == trained.history[0]["dev_macro_f1"]
