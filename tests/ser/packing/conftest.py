"""A run on three tiny corpora, with its trainings across them, and the bundle of it."""

from types import SimpleNamespace

import polars as pl
import pytest
import soundfile

from tests.ser.factories import RUN, ser, tone

CLASSES = ("angry", "sad")
PIPELINE = """\
corpus: {manifest: m.csv, audio: audio, classes: [angry, sad]}
cache: cache
run: runs/three
features: {prosody: {kind: prosody, precision: float32}}
heads:
  defaults: {head: mean_mlp, hidden: 8, epochs: 3, lr: 1.0e-2, batch: 16, standardize: true}
  one: {features: [prosody], cross_fit: 2, keep: last}
  two: {features: [prosody], cross_fit: 2, keep: last, seed: 8}
stack: {model: mean_logits, calibrate: true}
score: {resamples: 50, bootstrap: 2}
"""


def write_corpora(folder):
    """Write clips of three corpora with six speakers each, two of them in test."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    for i in range(72):
        corpus, number = ("ravdess", "emovo", "mine")[i // 24], i % 24
        speaker, emotion = number // 4, CLASSES[i % 2]
        # the pitch is that of the class but for every sixth clip
        soundfile.write(folder / "audio" / f"{i}.wav", tone(i % 2 + (i % 6 == 0), 0.3), 16_000)
        split = "test" if speaker > 3 else "train"
        language = {"ravdess": "en", "emovo": "it", "mine": "en"}[corpus]
        gender = ("female", "male")[speaker % 2]
        name = f"{corpus}/{speaker}"
        rows.append((str(i), f"{i}.wav", emotion, name, split, corpus, language, gender))
    columns = ["utterance", "path", "emotion", "speaker", "split", "corpus", "language", "gender"]
    pl.DataFrame(rows, columns, orient="row").write_csv(folder / "m.csv")
    (folder / "pipeline.yaml").write_text(PIPELINE)


@pytest.fixture(scope="session")
def three(tmp_path_factory):
    """Return the folder, the run, and the bundle that abstains by a risk of a quarter."""
    folder = tmp_path_factory.mktemp("three")
    write_corpora(folder)
    words = ("pack", "runs/three", "-o", "three.ser", "--risk", "0.25", "--licence", "CC BY 4.0")
    for call in (RUN, ("cross", "--jobs", "1"), words):
        done = ser(*call, cwd=folder)
        assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=folder, run=folder / "runs/three", bundle=folder / "three.ser")
