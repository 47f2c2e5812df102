import numpy as np
import pytest
import soundfile

from tests.ser.factories import tone
from tests.ser.finetune.factories import job, make_pipeline, make_tuner


def clips(folder, *overrides, **options):
    return make_tuner(make_pipeline(folder, **options), *overrides).clips


def heard(of, utterance, epoch):
    (found,) = of.batches([[utterance]], epoch)
    return found.inputs[0].numpy()


def test_a_crop_hangs_on_epoch_and_utterance_and_scores_hear_the_middle(tmp_path):
    of = clips(tmp_path, crop=0.2, hear=0.25)
    assert len(heard(of, "u3", 0)) == 3200
    np.testing.assert_array_equal(heard(of, "u3", 0), heard(of, "u3", 0))
    assert not np.array_equal(heard(of, "u3", 0), heard(of, "u3", 1))
    whole = of.sources.load("u3")
    start = (len(whole) - 4000) // 2
    expected = of.encoder.prepare(whole[start : start + 4000])[0]
    np.testing.assert_array_equal(heard(of, "u3", None), expected)
    assert of.costs(["u3"], 0).tolist() == [9]
    assert of.costs(["u3"], None).tolist() == [12]


def test_views_are_drawn_anew_every_epoch_and_never_for_scores(tmp_path):
    of = clips(tmp_path, augment="{noise: {}, mix: {}}", augmented=1.0)
    clean = heard(of, "u3", None)
    one, other = heard(of, "u3", 0), heard(of, "u3", 1)
    assert len(one) == len(other) == len(clean)
    assert not np.array_equal(one, clean)
    assert not np.array_equal(one, other)
    never = clips(tmp_path / "never", augment="{noise: {}}", augmented=0.0)
    np.testing.assert_array_equal(heard(never, "u3", 0), clean)


def test_clips_of_a_model_without_masks_meet_at_tenths_of_a_second(tmp_path):
    of = clips(tmp_path, model="wav2vec2-group")
    lengths = {len(heard(of, f"u{i}", 0)) for i in range(9)}
    assert lengths == {4800}  # of 0.30 s to 0.38 s
    assert len(heard(of, "u8", None)) == 6080


def test_what_cannot_be_read_teaches_nothing_and_is_listed(tmp_path):
    path = make_pipeline(tmp_path)
    broken = np.full(8000, np.nan, np.float32)
    soundfile.write(tmp_path / "audio" / "u3.wav", broken, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "audio" / "u4.wav", np.zeros(8000, np.float32), 16_000)
    of = make_tuner(path).clips
    (found,) = of.batches([["u2", "u3", "u4"]], 0)
    assert found.usable.tolist() == [True, False, False]
    assert set(of.failed) == {"u3", "u4"}  # decoded in threads: in either order
    assert of.failed["u3"] == f"{tmp_path / 'audio' / 'u3.wav'}: contains NaN or infinite samples"
    assert of.failed["u4"].endswith("u4.wav: silent (all samples are zero)")


def test_a_missing_file_is_no_row(tmp_path):
    path = make_pipeline(tmp_path)
    (tmp_path / "audio" / "u3.wav").unlink()
    of = job(path)
    assert "u3" not in of.sources.sizes()
    assert of.sources.unusable["u3"].endswith("no such file")


@pytest.mark.parametrize("model", ["w2v-bert"])
def test_a_clip_too_short_for_a_model_says_so(tmp_path, model):
    path = make_pipeline(tmp_path, model)
    soundfile.write(tmp_path / "audio" / "u0.wav", tone(0, 0.03), 16_000)
    of = make_tuner(path).clips
    (found,) = of.batches([["u0"]], None)
    assert not found.usable[0]
    assert of.failed == {"u0": "480 samples are fewer than one frame needs (560)"}
