"""Standard scores and the sum of layers, and what a head behind them gets."""

import numpy as np
import pytest
import torch
from torch import nn

from ser.corpus.errors import UserError
from ser.heads.head import mask_of
from ser.heads.inputs import FeatureInput, Prepared, drawn_to_corpus


class Echo(nn.Module):
    """Return what it is given, the means of frames too."""

    def forward(self, features, mix=lambda embedding: embedding):
        self.given = features
        return {name: mix(frames.mean(dim=1)) for name, (frames, _) in features.items()}


class Plain(nn.Module):
    """Return the means of frames."""

    def forward(self, features):
        return {name: frames.mean(dim=1) for name, (frames, _) in features.items()}


class Wrong(nn.Module):
    """Return what a test says."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, features):
        return self.answer


def moments_of(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), rng.uniform(0.5, 2, shape)


def test_frames_become_standard_scores():
    mean, deviation = moments_of(3)
    frames = torch.randn(2, 4, 3)
    actual = FeatureInput(0, (mean, deviation))(frames)
    np.testing.assert_allclose(actual, (frames.numpy() - mean) / deviation, rtol=1e-5, atol=1e-6)


def test_without_moments_and_layers_frames_pass_as_they_are():
    take = FeatureInput(0, None)
    frames = torch.randn(2, 4, 3)
    assert take(frames) is frames
    assert not take.state_dict()


def test_layers_are_averaged_at_first_and_then_weighted_by_softmax():
    take = FeatureInput(3, None)
    frames = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(take(frames), frames.mean(dim=2))
    with torch.no_grad():
        take.layer_weights.copy_(torch.tensor([0.0, np.log(2), np.log(5)]))
    expected = (frames * torch.tensor([1 / 8, 2 / 8, 5 / 8])[:, None]).sum(dim=2)
    torch.testing.assert_close(take(frames), expected)


def test_each_layer_has_moments_of_its_own_and_learns_its_weight():
    moments = moments_of((3, 5))
    take = FeatureInput(3, moments)
    frames = torch.randn(2, 4, 3, 5)
    scores = (frames.numpy() - moments[0]) / moments[1]
    actual = take(frames)
    np.testing.assert_allclose(actual.detach(), scores.mean(axis=2), rtol=1e-4, atol=1e-5)
    actual.square().sum().backward()
    assert take.layer_weights.grad.abs().min() > 0
    assert [name for name, _ in take.named_parameters()] == ["layer_weights"]


def test_a_speaker_of_few_clips_is_drawn_to_the_corpus():
    speakers = np.array([[4.0, 8.0], [4.0, 8.0]]), np.array([[3.0, 1.0], [3.0, 1.0]])
    corpus = np.array([0.0, 2.0]), np.array([1.0, 2.0])
    mean, deviation = drawn_to_corpus(speakers, np.array([2, 6]), corpus)
    np.testing.assert_allclose(mean, [[2.0, 5.0], [3.0, 6.5]])  # half, and three quarters
    np.testing.assert_allclose(deviation, [[2.0, 1.5], [2.5, 1.25]])


def test_each_feature_has_its_own_input_and_the_mask_passes():
    mean, deviation = moments_of(3)
    inputs = {"a": FeatureInput(2, None), "b": FeatureInput(0, (mean, deviation))}
    module = Prepared(Echo(), inputs, {"a": 5, "b": 3})
    a, b = torch.randn(2, 4, 2, 5), torch.randn(2, 6, 3)
    masks = [mask_of(torch.tensor([4, 1]), 4), mask_of(torch.tensor([2, 6]), 6)]
    module({"b": (b, masks[1]), "a": (a, masks[0])})
    given = module.head.given
    assert list(given) == ["a", "b"]
    torch.testing.assert_close(given["a"][0], a.mean(dim=2))
    scores = (b.numpy() - mean) / deviation
    np.testing.assert_allclose(given["b"][0], scores, rtol=1e-4, atol=1e-5)
    assert [given[name][1] for name in given] == masks


def test_mix_reaches_the_head_and_one_that_takes_none_is_called_without():
    features = {"a": (torch.randn(2, 4, 3), torch.ones(2, 4, dtype=torch.bool))}
    module = Prepared(Echo(), {"a": FeatureInput(0, None)}, {"a": 3})
    mean = features["a"][0].mean(dim=1)
    assert torch.equal(module(features, lambda embedding: embedding.flip(0))["a"], mean.flip(0))
    assert torch.equal(module(features)["a"], mean)
    plain = Prepared(Plain(), {"a": FeatureInput(0, None)}, {"a": 3})
    assert torch.equal(plain(features)["a"], mean)
    with pytest.raises(UserError) as error:
        plain(features, lambda embedding: embedding)
    assert str(error.value) == (
        f"the head {__name__}.Plain takes no `mix`, which augment.mixup needs; derive its class "
        "from ser.heads.head.Head, or set augment.mixup: 0."
    )


@pytest.mark.parametrize("layers", [0, 3])
def test_it_saves_what_it_standardises_by(layers, tmp_path):
    from safetensors.torch import load_file, save_file

    shape = (layers, 5) if layers else (5,)
    module = Prepared(Echo(), {"a": FeatureInput(layers, moments_of(shape))}, {"a": 5})
    save_file(module.state_dict(), tmp_path / "head.safetensors")
    again = Prepared(Echo(), {"a": FeatureInput(layers, moments_of(shape, seed=1))}, {"a": 5})
    again.load_state_dict(load_file(tmp_path / "head.safetensors"))
    features = {"a": (torch.randn(2, 4, *shape), torch.ones(2, 4, dtype=torch.bool))}
    assert torch.equal(module(features)["a"], again(features)["a"])
    assert all(value.dtype == torch.float32 for value in module.state_dict().values())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (torch.zeros(2, 3), "returned a Tensor; return a dict {'logits': …}."),
        ({"x": torch.zeros(2, 3)}, "returned no 'logits'; return it, or use losses that need none"),
        (
            {"logits": torch.zeros(2, 4)},
            "returned 'logits' as (2, 4); return (batch, width)",
        ),
        (
            {"logits": torch.zeros(1, 3)},
            "returned 'logits' as (1, 3); return (batch, width)",
        ),
        ({"logits": [0.0]}, "returned 'logits' as list; return (batch, width) (2, 3)"),
        ({"logits": torch.full((2, 3), torch.nan)}, "returned NaN or infinite 'logits' before its"),
    ],
)
def test_mistakes_of_a_head_name_its_class_and_the_remedy(answer, problem):
    features = {"a": (torch.randn(2, 4, 3), torch.ones(2, 4, dtype=torch.bool))}
    with pytest.raises(UserError) as error:
        Prepared(Wrong(answer), {"a": FeatureInput(0, None)}, {"logits": 3}).train()(features)
    assert str(error.value).startswith(f"the head {__name__}.Wrong {problem}")


def test_numbers_that_are_not_finite_are_looked_for_once_and_in_training_only():
    features = {"a": (torch.randn(2, 4, 3), torch.ones(2, 4, dtype=torch.bool))}
    head, inputs = Wrong({"logits": torch.zeros(2, 3)}), {"a": FeatureInput(0, None)}
    module = Prepared(head, inputs, {"logits": 3}).train()
    module(features)
    head.answer = {"logits": torch.full((2, 3), torch.inf)}
    module(features)
    Prepared(head, inputs, {"logits": 3}).eval()(features)
