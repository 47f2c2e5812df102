import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus.audio import SAMPLE_RATE, check_signal, load
from ser.corpus.augment import VIEWS, Mix, Noise, Reverb, Speed, View, parse_views
from ser.corpus.errors import AudioError, UserError
from ser.corpus.other_speakers import OtherSpeakers

SPEAKERS = {f"u{i}": f"s{i % 4}" for i in range(20)}
KINDS = sorted(VIEWS)


def voice(utterance: str, seconds: float = 0.5, level: float = 0.05) -> np.ndarray:
    """Make a harmonic tone in noise that differs by utterance: float32, far from full scale."""
    rng = np.random.default_rng(sum(utterance.encode()))
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * k * rng.uniform(90, 250) * time) / k for k in range(1, 6))
    return (level * (tones + 0.1 * rng.standard_normal(len(time)))).astype(np.float32)


def apply(view: View, utterance: str = "u0", wave: np.ndarray | None = None) -> np.ndarray:
    return view.apply(
        utterance, voice(utterance) if wave is None else wave, voice, OtherSpeakers(SPEAKERS)
    )


def snr_of(clean: np.ndarray, noisy: np.ndarray) -> float:
    noise = noisy.astype(np.float64) - clean
    return float(10 * np.log10(np.mean(clean.astype(np.float64) ** 2) / np.mean(noise**2)))


def drawn(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    return st.floats(low, high).map(lambda x: (x, x))


# What every view keeps


@pytest.mark.parametrize("kind", KINDS)
def test_same_samples_in_any_order_and_thread(kind: str) -> None:
    view = VIEWS[kind]()
    forward = {u: apply(view, u) for u in SPEAKERS}
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda u: apply(view, u), reversed(SPEAKERS))
        backward = dict(zip(reversed(SPEAKERS), results, strict=True))
    for utterance, samples in forward.items():
        np.testing.assert_array_equal(samples, backward[utterance])


def test_same_samples_in_another_process_and_with_other_thread_counts() -> None:
    script = """
        import zlib
        import numpy as np
        from ser.corpus.augment import VIEWS
        from ser.corpus.other_speakers import OtherSpeakers
        others = OtherSpeakers({f"u{i}": f"s{i}" for i in range(9)})
        load = lambda u: np.sin(np.arange(40_000) * (1 + int(u[1:])) / 50).astype(np.float32)
        for kind in sorted(VIEWS):
            print(kind, zlib.crc32(VIEWS[kind]().apply("u3", load("u3"), load, others).tobytes()))
    """
    collected = []
    for seed, threads in (("1", "1"), ("2", "2")):
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }
        command = [sys.executable, "-c", textwrap.dedent(script)]
        root = Path(__file__).parents[2]
        collected.append(subprocess.check_output(command, env=environment, cwd=root, text=True))
    assert collected[0] == collected[1]
    assert len(collected[0].splitlines()) == len(VIEWS)


@pytest.mark.parametrize("kind", KINDS)
def test_utterance_and_seed_change_what_is_drawn(kind: str) -> None:
    wave = voice("u0")
    results = [apply(VIEWS[kind](), u, wave) for u in ("u0", "u1", "u2", "u3", "u5", "u6", "u7")]
    results += [apply(VIEWS[kind](seed=seed), "u0", wave) for seed in range(6)]
    distinct = {r.tobytes() for r in results}
    assert len(distinct) == (2 if kind == "speed" else len(results))  # speed has two rates
    assert wave.tobytes() not in distinct


@pytest.mark.parametrize("kind", KINDS)
def test_the_clip_given_is_not_changed(kind: str) -> None:
    wave = voice("u0", level=0.9)
    before = wave.copy()
    wave.flags.writeable = False
    apply(VIEWS[kind](), "u0", wave)
    np.testing.assert_array_equal(wave, before)


@settings(deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    samples=st.integers(400, 9_000),
    level=st.sampled_from([1e-30, 1e-4, 0.5, 1.0, 30.0]),
    utterance=st.text(min_size=1, max_size=8),
)
def test_finite_within_full_scale_and_of_the_stated_length(
    kind: str, samples: int, level: float, utterance: str
) -> None:
    view = VIEWS[kind]()
    wave = (level * np.sin(np.arange(samples) / 7)).astype(np.float32)
    others = OtherSpeakers({utterance: "a", "u0": "b", "u1": "c"})
    result = view.apply(utterance, wave, voice, others)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert np.abs(result).max() <= 1.0
    assert result.shape == (view.samples(utterance, samples),)
    if kind != "speed":
        assert len(result) == samples


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [400, 640, 16_001])
def test_silence_stays_silence_and_the_shortest_clips_stay_usable(kind: str, samples: int) -> None:
    silent = apply(VIEWS[kind](), "u0", np.zeros(samples, np.float32))
    assert not silent.any()
    for utterance in SPEAKERS:
        check_signal(apply(VIEWS[kind](), utterance, voice(utterance, samples / SAMPLE_RATE)))


def test_what_is_too_loud_is_scaled_down_and_not_clipped() -> None:
    wave = voice("u0", level=0.5)
    loud = wave / np.abs(wave).max()
    noise = Noise(snr=(3, 3))
    whole = apply(noise, "u0", loud)
    assert np.abs(whole).max() == 1.0
    quiet = apply(noise, "u0", loud / 8)
    np.testing.assert_allclose(whole, quiet / np.abs(quiet).max(), atol=1e-6)


# Noise


@settings(deadline=None)
@given(snr=drawn(-5, 40), exponent=drawn(0, 2), seconds=st.floats(0.04, 1.5))
def test_noise_is_at_its_snr(
    snr: tuple[float, float], exponent: tuple[float, float], seconds: float
) -> None:
    wave = voice("u0", seconds, level=0.01)
    noisy = apply(Noise(snr=snr, exponent=exponent), "u0", wave)
    assert snr_of(wave, noisy) == pytest.approx(snr[0], abs=0.1)


def test_snr_is_drawn_uniformly_within_its_span() -> None:
    view, wave = Noise(snr=(5, 20)), voice("u0", 0.1, level=0.01)
    others = OtherSpeakers({})
    values = [snr_of(wave, view.apply(f"u{i}", wave, voice, others)) for i in range(300)]
    assert 4.9 < min(values) < 6
    assert 19 < max(values) < 20.1
    assert np.mean(values) == pytest.approx(12.5, abs=1)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_spectrum_of_noise_falls_with_its_exponent(exponent: float) -> None:
    wave = voice("u0", 20.0, level=0.01)
    noisy = apply(Noise(exponent=(exponent, exponent)), "u0", wave)
    power = np.abs(np.fft.rfft(noisy - wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    octaves = [(125 * 2**k, 250 * 2**k) for k in range(5)]
    means = [power[(frequency >= a) & (frequency < b)].mean() for a, b in octaves]
    slope = np.polyfit(np.arange(5), 10 * np.log10(means), 1)[0]
    assert slope == pytest.approx(-10 * np.log10(2) * exponent, abs=0.2)  # dB an octave


# Reverb


@pytest.mark.parametrize("rt60", [0.2, 0.8])
def test_a_room_decays_by_60_db_in_rt60(rt60: float) -> None:
    response = Reverb(rt60=(rt60, rt60)).response(np.random.default_rng(1))
    remaining = np.cumsum(response[:0:-1] ** 2)[::-1]  # Schroeder 1965, direct sound left out
    decay = 10 * np.log10(remaining / remaining[0])
    first, last = np.searchsorted(-decay, [5, 25])  # T20 as in ISO 3382
    assert 3 * (last - first) / SAMPLE_RATE == pytest.approx(rt60, rel=0.1)


@settings(deadline=None)
@given(drr=drawn(-10, 40), seed=st.integers(0, 1000))
def test_direct_sound_is_drr_above_the_tail(drr: tuple[float, float], seed: int) -> None:
    response = Reverb(drr=drr).response(np.random.default_rng(seed))
    assert response[0] == 1.0
    assert not response[1:40].any()  # 2.5 ms
    assert -10 * np.log10((response[1:] ** 2).sum()) == pytest.approx(drr[0], abs=1e-6)


def test_reverb_is_the_convolution_with_the_room() -> None:
    view, wave = Reverb(), voice("u0", 0.3, level=0.01)
    impulse = np.zeros(16_000, np.float32)
    impulse[0] = 1.0
    response = apply(view, "u0", impulse).astype(np.float64)
    expected = np.convolve(wave, response)[: len(wave)]
    np.testing.assert_allclose(apply(view, "u0", wave), expected, atol=1e-6)


# Speed


@settings(deadline=None)
@given(samples=st.integers(800, 60_000), rate=st.floats(0.5, 2))
def test_speed_changes_the_length_by_one_over_the_rate(samples: int, rate: float) -> None:
    view = Speed(rates=(rate,))
    result = apply(view, "u0", np.full(samples, 0.1, np.float32))
    assert len(result) == round(samples / rate) == view.samples("u0", samples)


@pytest.mark.parametrize("rate", [0.9, 1.1, 1.5])
def test_speed_moves_a_tone_and_keeps_its_level(rate: float) -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    faster = apply(Speed(rates=(rate,)), "u0", tone)
    at = np.arange(len(faster)) / SAMPLE_RATE
    expected = 0.5 * np.sin(2 * np.pi * 440 * rate * at)
    np.testing.assert_allclose(faster[800:-800], expected[800:-800], atol=2e-3)


def test_every_rate_is_drawn() -> None:
    view = Speed(rates=(0.8, 1.0, 1.25))
    lengths = [view.samples(f"u{i}", 16_000) for i in range(60)]
    assert set(lengths) == {20_000, 16_000, 12_800}
    assert min(map(lengths.count, lengths)) >= 10


def test_speed_leaves_25_ms_at_least() -> None:
    view = Speed(rates=(2.0,))
    assert [view.samples("u0", n) for n in (400, 700, 800, 900)] == [400, 400, 400, 450]
    result = apply(view, "u0", np.full(400, 0.1, np.float32))
    assert len(result) == 400
    assert not result[200:].any()


# Mix


@settings(deadline=None)
@given(snr=drawn(-5, 40), seconds=st.floats(0.04, 2.0))
def test_the_background_is_at_its_snr(snr: tuple[float, float], seconds: float) -> None:
    wave = voice("u0", seconds, level=0.01)
    assert snr_of(wave, apply(Mix(snr=snr), "u0", wave)) == pytest.approx(snr[0], abs=0.1)


@pytest.mark.parametrize(("samples", "of"), [(4_000, 16_000), (16_000, 4_000), (4_000, 4_000)])
def test_the_background_is_a_part_of_the_partner_or_its_repetition(samples: int, of: int) -> None:
    partner = np.sin(np.arange(of) ** 1.5 / 900).astype(np.float32)
    wave = voice("u0", samples / SAMPLE_RATE, level=0.01)
    mixed = Mix().apply("u0", wave, lambda u: partner, OtherSpeakers(SPEAKERS))
    behind = (mixed.astype(np.float64) - wave) / np.abs(mixed.astype(np.float64) - wave).max()
    starts = range(0, max(1, of - samples + 1))
    repeated = np.tile(partner, 1 + samples // of)
    pieces = (repeated[start : start + samples] for start in starts)
    assert any(np.allclose(behind, p / np.abs(p).max(), atol=1e-3) for p in pieces)


def test_a_longer_background_is_cut_at_drawn_places() -> None:
    ramp = np.linspace(0.1, 1.0, 32_000, dtype=np.float32)
    wave = voice("u0", 0.1, level=0.01)
    starts = []
    for utterance in SPEAKERS:
        mixed = Mix().apply(utterance, wave, lambda u: ramp, OtherSpeakers(SPEAKERS))
        behind = mixed.astype(np.float64) - wave
        starts.append(behind[0] / behind[-1])  # 0.3 at the start of the ramp, 0.95 at its end
    assert len({round(s, 2) for s in starts}) > 10


def test_the_partner_is_loaded_once_and_no_other_view_loads_anything() -> None:
    others = OtherSpeakers(SPEAKERS)
    for kind in KINDS:
        asked: list[str] = []

        def recorded(utterance: str, asked: list[str] = asked) -> np.ndarray:
            asked.append(utterance)
            return voice(utterance)

        view = VIEWS[kind]()
        view.apply("u0", voice("u0"), recorded, others)
        partner = view.partner("u0", others)
        assert asked == ([] if partner is None else [partner])
        assert (partner is not None) == (kind == "mix")


@settings(deadline=None)
@given(
    speakers=st.dictionaries(
        st.text(max_size=5), st.sampled_from(["a", "b", "c", "", None]), min_size=1, max_size=30
    ),
    seed=st.integers(0, 99),
)
def test_others_are_all_of_other_speakers_in_any_order_given(
    speakers: dict[str, str | None], seed: int
) -> None:
    backward = OtherSpeakers(dict(reversed(speakers.items())))
    for utterance, speaker in speakers.items():
        found = list(OtherSpeakers(speakers).draw(utterance, seed))
        assert found == list(backward.draw(utterance, seed))
        expected = {u for u, s in speakers.items() if u != utterance and (not s or s != speaker)}
        assert sorted(found) == sorted(expected)


def test_a_corpus_that_grows_by_a_clip_changes_few_partners() -> None:
    speakers = {f"u{i}": f"s{i % 7}" for i in range(500)}
    before, after = OtherSpeakers(speakers), OtherSpeakers(speakers | {"new": "s99"})
    pairs = [(Mix().partner(u, before), Mix().partner(u, after)) for u in speakers]
    changed = [new for old, new in pairs if old != new]
    assert set(changed) <= {"new"}
    assert len(changed) < 10
    assert len({old for old, _ in pairs}) > 200  # partners are spread over the corpus


def test_a_partner_that_cannot_be_read_is_passed_over() -> None:
    others = OtherSpeakers(SPEAKERS)
    first, second = list(others.draw("u0", 7))[:2]

    def broken(utterance: str) -> np.ndarray:
        if utterance == first:
            raise AudioError("not audio")
        return voice(utterance)

    mixed = Mix().apply("u0", voice("u0"), broken, others)
    only_second = Mix().apply("u0", voice("u0"), lambda u: voice(second), others)
    np.testing.assert_array_equal(mixed, only_second)


def test_backgrounds_that_are_all_unreadable_fail_the_clip() -> None:
    def broken(utterance: str) -> np.ndarray:
        raise AudioError("empty file", "0 bytes")

    message = r"^none of the backgrounds tried can be read \(first: empty file \(0 bytes\)\)$"
    with pytest.raises(ValueError, match=message):
        Mix().apply("u0", voice("u0"), broken, OtherSpeakers(SPEAKERS))


def test_a_background_that_is_silent_leaves_the_clip() -> None:
    silent = np.zeros(100, np.float32)
    mixed = Mix().apply("u0", voice("u0"), lambda u: silent, OtherSpeakers(SPEAKERS))
    np.testing.assert_array_equal(mixed, voice("u0"))


def test_one_speaker_alone_cannot_be_mixed() -> None:
    others = OtherSpeakers({"u0": "anna", "u1": "anna"})
    message = (
        r"^augment\.mix: the training split has no speaker other than that of 'u0'; name the "
        r"speakers in the manifest, or leave `mix` out\.$"
    )
    with pytest.raises(UserError, match=message):
        Mix().partner("u0", others)
    with pytest.raises(UserError, match=message):
        Mix().apply("u0", voice("u0"), voice, others)


# What users write, and what fingerprints are taken of


def test_views_are_parsed_in_the_order_of_the_file() -> None:
    views = parse_views({"speed": {"rates": [0.9, 1.1]}, "mix": {"snr": [5, 6]}, "reverb": None})
    assert views == {"speed": Speed(), "mix": Mix(snr=(5, 6)), "reverb": Reverb()}
    assert list(views) == ["speed", "mix", "reverb"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"niose": {}}, "augment: the view 'niose' is unknown; did you mean 'noise'?"),
        ({"x": {}}, "augment: the view 'x' is unknown; choose from noise, reverb, speed, mix."),
        (
            {"noise": {"srn": [1, 2]}},
            "augment.noise.srn: unknown key; did you mean 'snr'?",
        ),
        (
            {"reverb": {}, "noise": {"snr": [20, 5]}},
            "augment.noise.snr: it must be two numbers from -20 to 60, in order; correct the "
            "value.",
        ),
        (
            {"mix": {"snr": [float("nan"), 5]}},
            "augment.mix.snr: it must be a finite number; correct the value.",
        ),
        (
            {"speed": {"rates": [0.9, 3]}},
            "augment.speed.rates: it must be less than or equal to 2; correct the value.",
        ),
        (
            {"noise": True},
            "augment.noise: it must be a mapping of options; write `noise: {}` for the defaults.",
        ),
        (
            ["noise"],
            "augment: it must be a mapping of views; choose from noise, reverb, speed, mix.",
        ),
    ],
)
def test_mistakes_name_the_key(said: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_views(said)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("said", "spec"),
    [
        ({"noise": {}}, {"view": "noise", "version": 1, "seed": 7}),
        ({"noise": {"snr": [5, 20]}}, {"view": "noise", "version": 1, "seed": 7}),
        (
            {"mix": {"snr": [0, 5], "seed": 3}},
            {"view": "mix", "version": 1, "seed": 3, "snr": [0.0, 5.0]},
        ),
    ],
)
def test_spec_names_what_changes_the_samples(
    said: Mapping[str, Any], spec: Mapping[str, Any]
) -> None:
    assert [view.spec() for view in parse_views(said).values()] == [spec]


# On real speech


@pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")
@pytest.mark.parametrize("kind", KINDS)
def test_real_clips_stay_real_clips(kind: str) -> None:
    folder = Path(os.environ["SER_SHARED"]) / "corpora" / "emodb4"
    clips = {path.stem: load(path) for path in sorted(folder.glob("*.flac"))[:6]}
    others = OtherSpeakers({u: u for u in clips})
    for utterance, wave in clips.items():
        view = VIEWS[kind]()
        result = view.apply(utterance, wave, clips.__getitem__, others)
        check_signal(result)
        assert len(result) == view.samples(utterance, len(wave))
        assert np.abs(result).max() <= 1.0
        if kind in ("noise", "mix") and np.abs(result).max() < 1.0:
            low, high = view.snr
            assert low - 0.1 < snr_of(wave, result) < high + 0.1
