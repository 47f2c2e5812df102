import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from ser.extract.kinds.log_mels import LogMels, mel_filters


@pytest.mark.parametrize("bands", [80, 128])
def test_filters_are_those_of_transformers(bands):
    theirs = WhisperFeatureExtractor(feature_size=bands).mel_filters
    np.testing.assert_array_equal(mel_filters(bands), theirs)


@pytest.mark.parametrize("samples", [3_200, 19_200, 480_000])
@pytest.mark.parametrize("clip", [0, 2, 159, 161, 1_600, 2_777, 0.5, 0.99, 1])
def test_log_mels_are_those_of_transformers_to_the_last_bit(samples, clip):
    """The clip is so many samples, or so much of the window, which ends with zeros."""
    wave = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    wave[clip if clip > 1 else round(clip * samples) :] = 0
    theirs = WhisperFeatureExtractor()(
        wave, sampling_rate=16_000, padding="do_not_pad", return_tensors="np"
    )
    np.testing.assert_array_equal(LogMels(80)(wave), theirs["input_features"][0].T)
