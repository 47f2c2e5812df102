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


@pytest.mark.parametrize(
    "loss",
    [
        *(pytest.param(loss, marks=pytest.mark.slow) for loss in ("[wce]", "[soft_f1]")),
        "[ce, soft_f1]",
    ],
)
def test_accumulated_batches_equal_one_large_batch(corpus, loss):
    whole, weights, history = stepped(corpus, loss=loss)
    overrides = (
        ["finetune.ft.batch=9", "finetune.ft.accumulate=4"],
        ["finetune.ft.budget=120"],  # frames; about 4 clips of 0.5 s
    )
    for options in overrides:
        parts, weights_of_parts, rows = stepped(corpus, *options, loss=loss)
        for expected, moment in zip(whole, parts, strict=True):
            torch.testing.assert_close(moment, expected, atol=1e-7, rtol=1e-4)
        for name, value in weights.items():
            assert float((weights_of_parts[name] - value).detach().abs().max()) <= 1e-6, name
        assert rows[0]["train_loss"] == pytest.approx(history[0]["train_loss"], abs=1e-6)


def test_training_is_reproducible_to_the_bit(corpus):
    overrides = ["finetune.ft.batch=12", "finetune.ft.augment={noise: {}, speed: {}}"]
    overrides += ["finetune.ft.crop=0.35", "finetune.ft.epochs=2", "finetune.ft.clip=1.0"]
    (_, first, history), (_, second, repeated) = (stepped(corpus, *overrides) for _ in range(2))
    assert history == repeated
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_learning_rates_follow_the_schedule_and_the_layer(corpus):
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
