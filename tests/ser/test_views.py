"""Augmented views from pipeline.yaml to a trained head."""

import numpy as np
import soundfile

from ser.cache.features import FeatureCache
from tests.ser.factories import make_corpus, ser, tone

COUNT = 30
TRAIN = [f"u{i}" for i in range(COUNT) if (i // 3 % 5) < 3]


def augmented(folder, views="{noise: {snr: [5, 20]}, speed: {}, mix: {}}"):
    make_corpus(folder, COUNT)
    pipeline = (folder / "pipeline.yaml").read_text()
    pipeline = pipeline.replace("{kind: prosody}", f"{{kind: prosody, augment: {views}}}")
    pipeline = pipeline.replace("loss: [wce, sml]", "views: [noise, speed], loss: [wce, sml]")
    (folder / "pipeline.yaml").write_text(pipeline)
    return folder


def test_views_are_extracted_of_training_clips_and_heads_draw_from_them(tmp_path):
    corpus = augmented(tmp_path)
    done = ser("extract", "--all", cwd=corpus)
    assert done.returncode == 0, done.stderr
    assert f"prosody: {COUNT} extracted" in done.stdout
    clean = FeatureCache.open(corpus / "cache", "prosody")
    for view in ("noise", "speed", "mix"):
        assert f"prosody+{view}: {len(TRAIN)} extracted" in done.stdout
        cache = FeatureCache.open(corpus / "cache", f"prosody+{view}")
        assert sorted(cache.index()["utterance"]) == sorted(TRAIN)
        changed = [u for u in TRAIN if not np.array_equal(cache.frames(u), clean.frames(u))]
        assert changed == TRAIN
    assert "up to date" in ser("extract", "--all", cwd=corpus).stdout
    assert "every feature is named" in ser("cache", "prune", cwd=corpus).stdout
    trained = ser("heads", "train-all", cwd=corpus)
    assert trained.returncode == 0, trained.stderr
    again = ser("heads", "train-all", cwd=corpus)
    assert again.stdout.count("up to date") == 2


def test_another_background_is_another_mix(tmp_path):
    corpus = augmented(tmp_path, "{mix: {}}")
    text = (corpus / "pipeline.yaml").read_text().replace("views: [noise, speed]", "views: [mix]")
    (corpus / "pipeline.yaml").write_text(text)
    assert ser("extract", "prosody", cwd=corpus).returncode == 0
    soundfile.write(corpus / "audio" / f"{TRAIN[0]}.wav", tone(7, 0.5), 16_000)
    again = ser("extract", "prosody", cwd=corpus)
    line = next(x for x in again.stdout.splitlines() if "prosody+mix" in x)
    redone = int(line.split(":")[1].split()[0])
    assert "prosody: 1 extracted" in again.stdout
    assert 1 <= redone < len(TRAIN)  # the clip itself, and whom it is mixed into


def test_a_view_that_is_not_made_is_named(tmp_path):
    corpus = augmented(tmp_path, "{noise: {}}")
    done = ser("heads", "list", cwd=corpus)
    assert done.returncode == 2
    assert "heads.two.views: 'speed' is not under features.prosody.augment; choose from noise." in (
        done.stderr
    )


def test_a_kind_without_views_is_named(tmp_path):
    corpus = augmented(tmp_path)
    text = (corpus / "pipeline.yaml").read_text()
    words = "  words: {kind: asr, model: whisper-tiny.en, augment: {noise: {}}}\nheads:"
    (corpus / "pipeline.yaml").write_text(text.replace("heads:", words, 1))
    done = ser("extract", "prosody", cwd=corpus)
    assert done.returncode == 2
    assert "features.words.augment: kind asr cannot be augmented; only features that" in (
        done.stderr
    )
