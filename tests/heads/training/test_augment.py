"""Augmentation in feature space: what is changed, how often, and what never is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.heads.config import Augment
from ser.heads.testing import padded
from ser.heads.training.augment import augment_features, mixing
from ser.heads.training.targets import Targets

DIMS = {"speech": 8, "text": 5}
LENGTHS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4)
SEEDS = st.integers(0, 2**32 - 1)
CONFIGS = [
    Augment(seqaug=1),
    Augment(time_mask=1, time_mask_share=0.6),
    Augment(seqaug=0.5, time_mask=0.5, seqaug_alpha=2),
]


def make_clips(lengths, seed=0, layers=()):
    """Return clips whose every number is another one, none of them 0."""
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return torch.from_numpy(rng.permutation(np.prod(shape)).reshape(shape) + 1.0).float()

    names = list(DIMS)
    return [
        {n: numbers(count, *layers, DIMS[n]) for n, count in zip(names, clip, strict=True)}
        for clip in lengths
    ]


def augmented(config, features, seed=0):
    return augment_features(config, features, np.random.default_rng(seed))


@settings(deadline=None)
@given(lengths=LENGTHS, seed=SEEDS, config=st.sampled_from(CONFIGS))
def test_a_padded_batch_is_changed_as_its_clips_one_after_the_other(lengths, seed, config):
    clips = make_clips(lengths)
    rng = np.random.default_rng(seed)
    alone = [augment_features(config, padded([clip], 0, 0.0), rng) for clip in clips]
    for extra, filling in ((0, 0.0), (3, 7.5)):
        batch = augmented(config, padded(clips, extra, filling), seed)
        for name, (frames, mask) in batch.items():
            assert torch.equal(frames[mask], torch.cat([each[name][0][0] for each in alone]))
            assert frames[~mask].eq(filling).all()


@settings(deadline=None)
@given(lengths=LENGTHS, seed=SEEDS)
def test_seqaug_permutes_some_channels_by_one_permutation_and_leaves_the_others(lengths, seed):
    clips = make_clips(lengths)
    batch = augmented(Augment(seqaug=1), padded(clips, 2, 0.0), seed)
    for b, clip in enumerate(clips):
        for name, before in clip.items():
            after = batch[name][0][b, : len(before)]
            assert torch.equal(after.sort(dim=0).values, before.sort(dim=0).values)
            moved = (after != before).any(dim=0).nonzero().flatten().tolist()
            ranks = [after[:, c].argsort()[before[:, c].argsort().argsort()] for c in moved]
            assert all(torch.equal(each, ranks[0]) for each in ranks)


def test_seqaug_moves_a_beta_distributed_share_of_the_channels():
    rng = np.random.default_rng(0)
    clips = [{"speech": torch.arange(40.0).repeat(50, 1).T + 1}] * 400
    for alpha, deviation in ((0.5, np.sqrt(1 / 8)), (50, np.sqrt(1 / 404))):
        config = Augment(seqaug=1, seqaug_alpha=alpha)
        frames, _ = augment_features(config, padded(clips, 0, 0.0), rng)["speech"]
        shares = (frames != clips[0]["speech"]).any(dim=1).float().mean(dim=1)
        assert shares.mean() == pytest.approx(0.5, abs=0.06)
        assert shares.std() == pytest.approx(deviation, rel=0.15)


@pytest.mark.parametrize("which", ["seqaug", "time_mask"])
def test_a_clip_is_changed_with_the_configured_probability(which):
    clips = make_clips([(12, 9)] * 400)
    config = Augment(**{which: 0.3}, time_mask_share=1, seqaug_alpha=50)
    batch = augmented(config, padded(clips, 0, 0.0))
    before = padded(clips, 0, 0.0)
    changed = [(batch[n][0] != before[n][0]).flatten(1).any(dim=1) for n in DIMS]
    assert (changed[0] | changed[1]).float().mean() == pytest.approx(0.3, abs=0.07)
    # a clip is changed in all its features, but for a span that is none of a feature's frames
    assert (changed[0] & changed[1]).sum() > 0.75 * (changed[0] | changed[1]).sum()


@settings(deadline=None)
@given(lengths=LENGTHS, seed=SEEDS, share=st.floats(0.01, 1))
def test_a_time_mask_is_one_span_of_at_most_its_share(lengths, seed, share):
    clips = make_clips(lengths)
    config = Augment(time_mask=1, time_mask_share=share)
    batch = augmented(config, padded(clips, 2, 5.0), seed)
    for b, clip in enumerate(clips):
        for name, before in clip.items():
            after = batch[name][0][b, : len(before)]
            hidden = after.eq(0).all(dim=1)
            assert torch.equal(after, before.masked_fill(hidden.unsqueeze(1), 0.0))
            at = hidden.nonzero().flatten().tolist()
            assert len(at) <= share * len(before)
            assert at == list(range(at[0], at[-1] + 1) if at else ())


def test_a_time_mask_is_at_the_same_place_in_all_features():
    batch = augmented(
        Augment(time_mask=1, time_mask_share=0.5), padded(make_clips([(300, 100)] * 50), 0, 0.0)
    )
    spans = [_span(batch[name][0].eq(0).all(dim=2)) for name in DIMS]
    both = [i for i, (first, end) in enumerate(spans[1]) if end > first]  # of a frame or more
    assert len(both) > 45
    np.testing.assert_allclose(spans[0][both], spans[1][both], atol=0.03)
    assert np.ptp(spans[0], axis=0).min() > 0.4


def _span(hidden):
    """Return where the hidden frames begin and end, as shares of the clip `(clips, 2)`."""
    first = hidden.float().argmax(dim=1)
    return torch.stack([first, first + hidden.sum(dim=1)], dim=1).numpy() / hidden.shape[1]


def test_time_masks_differ_from_clip_to_clip_and_reach_every_frame():
    clips = make_clips([(12, 12)] * 300)
    frames, _ = augmented(Augment(time_mask=1), padded(clips, 0, 0.0))["speech"]
    hidden = frames.eq(0).all(dim=2)
    assert hidden.any(dim=0).all()
    assert len({tuple(row.tolist()) for row in hidden}) > 20


@pytest.mark.parametrize("config", CONFIGS)
def test_all_layers_of_a_feature_are_changed_alike(config):
    clips = make_clips([(7, 4), (12, 9)], layers=(3,))
    for clip in clips:
        for name in clip:
            clip[name] = clip[name][:, :1].expand(-1, 3, -1).contiguous()
    lengths = {n: torch.tensor([len(clip[n]) for clip in clips]) for n in DIMS}
    features = {
        n: (
            torch.nn.utils.rnn.pad_sequence([clip[n] for clip in clips], batch_first=True),
            torch.arange(int(each.max())) < each.unsqueeze(1),
        )
        for n, each in lengths.items()
    }
    batch = augmented(config, features, 3)
    assert any(not torch.equal(batch[n][0], features[n][0]) for n in DIMS)
    for frames, _ in batch.values():
        assert torch.equal(frames, frames[:, :, :1].expand_as(frames))


@pytest.mark.parametrize("config", CONFIGS)
def test_the_same_generator_changes_the_same_and_what_was_given_stays(config):
    clips = make_clips([(12, 9), (10, 12)] * 5)
    features, before = padded(clips, 1, 0.0), padded(clips, 1, 0.0)
    first, again, other = (augmented(config, features, seed) for seed in (5, 5, 6))
    for name, (frames, mask) in before.items():
        assert torch.equal(features[name][0], frames)
        assert torch.equal(first[name][0], again[name][0])
        assert torch.equal(first[name][1], mask)
    assert any(not torch.equal(first[name][0], other[name][0]) for name in DIMS)


def test_without_augmentation_nothing_is_copied_or_drawn():
    features = padded(make_clips([(3, 2)]), 0, 0.0)
    rng = np.random.default_rng(0)
    assert augment_features(Augment(mixup=1), features, rng)["text"][0] is features["text"][0]
    assert mixing(Augment(seqaug=1), 4, rng) is None
    assert rng.random() == np.random.default_rng(0).random()


def test_mixing_draws_a_share_for_each_clip_and_leaves_the_rest_alone():
    mixed = mixing(Augment(mixup=0.3), 4000, np.random.default_rng(0))
    assert mixed.partner.sort().values.tolist() == list(range(4000))
    assert mixed.partner.dtype == torch.int64
    assert mixed.share.dtype == torch.float32
    drawn = mixed.share[mixed.share < 1]
    # some of Beta(0.2, 0.2) round to 1
    assert len(drawn) / 4000 == pytest.approx(0.29, abs=0.03)
    assert drawn.mean() == pytest.approx(0.5, abs=0.06)
    assert drawn.std() == pytest.approx(np.sqrt(1 / 4 / 1.4), rel=0.1)
    even = mixing(Augment(mixup=1, mixup_alpha=200), 4000, np.random.default_rng(0))
    assert even.share.std() == pytest.approx(np.sqrt(1 / 4 / 401), rel=0.1)


def test_mixing_of_a_batch_mixes_all_clips_or_none():
    config = Augment(mixup=0.3, mixup_alpha=2, mixup_of="batch")
    mixed = [
        int((mixing(config, 8, np.random.default_rng(seed)).share < 1).sum()) for seed in range(400)
    ]
    assert set(mixed) == {0, 8}
    assert np.mean(mixed) / 8 == pytest.approx(0.3, abs=0.06)


def test_mixing_is_deterministic_by_its_generator():
    first, again, other = (
        mixing(Augment(mixup=0.5), 16, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.share, again.share)
    assert torch.equal(first.partner, again.partner)
    assert not torch.equal(first.share, other.share)


def test_embeddings_and_targets_are_mixed_alike():
    mixed = mixing(Augment(mixup=0.7), 6, np.random.default_rng(3))
    rows = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    drawn = zip(rows, mixed.partner.tolist(), mixed.share.tolist(), strict=True)
    by_hand = torch.stack([share * own + (1 - share) * rows[j] for own, j, share in drawn])
    torch.testing.assert_close(mixed.of_embeddings(rows), by_hand)
    targets = Targets(rows).mixed(mixed.partner, mixed.share)
    assert torch.equal(targets.classes, mixed.of_embeddings(rows))
    alone = mixed.share == 1
    assert 0 < alone.sum() < 6
    assert torch.equal(mixed.of_embeddings(rows)[alone], rows[alone])
