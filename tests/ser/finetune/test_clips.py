import numpy as np
import pytest
import soundfile

from tests.ser.factories import tone
from tests.ser.finetune.factories import job, make_pipeline, make_tuner


def clips(folder, *overrides, **options):
    return make_tuner(make_pipeline(folder, **options), *overrides).data.clips


def heard(of, utterance, epoch):
    (batch,) = of.batches([[utterance]], epoch)
    return batch.inputs[0].numpy()


def test_a_crop_depends_on_epoch_and_utterance_and_scoring_uses_the_middle(tmp_path):
    clip_source = clips(tmp_path, crop=0.2, hear=0.25)
    assert len(heard(clip_source, "u3", 0)) == 3200
    np.testing.assert_array_equal(heard(clip_source, "u3", 0), heard(clip_source, "u3", 0))
    assert not np.array_equal(heard(clip_source, "u3", 0), heard(clip_source, "u3", 1))
    whole = clip_source.sources.load("u3")
    start = (len(whole) - 4000) // 2
    expected = clip_source.encoder.prepare(whole[start : start + 4000])[0].inputs
    np.testing.assert_array_equal(heard(clip_source, "u3", None), expected)
    assert clip_source.costs(["u3"], 0).tolist() == [9]
    assert clip_source.costs(["u3"], None).tolist() == [12]


def test_views_are_drawn_anew_every_epoch_and_never_for_scores(tmp_path):
    clip_source = clips(tmp_path, augment="{noise: {}, mix: {}}", augmented=1.0)
    clean = heard(clip_source, "u3", None)
    one, other = heard(clip_source, "u3", 0), heard(clip_source, "u3", 1)
    assert len(one) == len(other) == len(clean)
    assert not np.array_equal(one, clean)
    assert not np.array_equal(one, other)
    never = clips(tmp_path / "never", augment="{noise: {}}", augmented=0.0)
    np.testing.assert_array_equal(heard(never, "u3", 0), clean)


def test_clips_of_a_model_without_masks_meet_at_tenths_of_a_second(tmp_path):
    clip_source = clips(tmp_path, model="wav2vec2-group")
    lengths = {len(heard(clip_source, f"u{i}", 0)) for i in range(9)}
    assert lengths == {4800}  # of 0.30 s to 0.38 s
    assert len(heard(clip_source, "u8", None)) == 6080


def test_unreadable_clips_are_left_out_of_training_and_listed(tmp_path):
    path = make_pipeline(tmp_path)
    broken = np.full(8000, np.nan, np.float32)
    soundfile.write(tmp_path / "audio" / "u3.wav", broken, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "audio" / "u4.wav", np.zeros(8000, np.float32), 16_000)
    clip_source = make_tuner(path).data.clips
    (batch,) = clip_source.batches([["u2", "u3", "u4"]], 0)
    assert batch.usable.tolist() == [True, False, False]
    assert set(clip_source.failed) == {"u3", "u4"}  # decoded in threads: in either order
    assert (
        clip_source.failed["u3"]
        == f"{tmp_path / 'audio' / 'u3.wav'}: contains NaN or infinite samples"
    )
    assert clip_source.failed["u4"].endswith("u4.wav: silent (all samples are zero)")


def test_a_missing_file_gives_no_row(tmp_path):
    path = make_pipeline(tmp_path)
    (tmp_path / "audio" / "u3.wav").unlink()
    tuning = job(path)
    assert "u3" not in tuning.sources.sizes()
    assert tuning.sources.unusable["u3"].endswith("no such file")


@pytest.mark.parametrize("model", ["w2v-bert"])
def test_a_clip_too_short_for_a_model_is_reported(tmp_path, model):
    path = make_pipeline(tmp_path, model)
    soundfile.write(tmp_path / "audio" / "u0.wav", tone(0, 0.03), 16_000)
    clip_source = make_tuner(path).data.clips
    (batch,) = clip_source.batches([["u0"]], None)
    assert not batch.usable[0]
    assert clip_source.failed == {"u0": "480 samples are fewer than one frame needs (560)"}
