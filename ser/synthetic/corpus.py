"""A corpus of tones with everything that MSP-Podcast has: votes, attributes, genders, no consensus.

Every clip is a buzz whose pitch and loudness depend on its class, with noise, so that a head has
something to learn; its words are random. Classes are as uneven as six clips of the rarest allow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile

from ser.corpus.audio import SAMPLE_RATE
from ser.corpus.columns import FURTHER, SYNTHETIC, VOTE
from ser.corpus.manifest import Manifest

RATERS = 5
RAREST = 6  # training clips of the rarest class: five folds of a stack need five
CLIPS = {"train": RAREST, "dev": 2, "test": 2}  # of a class, at least
SPEAKERS = {"train": 10, "dev": 3, "test": 3}
WORDS = (
    *("I told you", "we never", "they always", "somebody", "my brother", "the meeting"),
    *("listened to it", "left the house", "laughed at this", "lost the key", "came back late"),
    *("yesterday", "this morning", "in the end", "again", "for no reason", "and that is all"),
)


def synthesize(folder: Path, classes: Sequence[str], seed: int = 7) -> Manifest:
    """Write `<folder>/audio/<utterance>.flac` and `<folder>/manifest.parquet`.

    Clips are of 0.4 to 1 s in steps of 0.1 s, mono, 16 kHz. The same classes and seed give the same
    corpus.
    """
    random = np.random.default_rng(seed)
    audio = folder / "audio"
    audio.mkdir(parents=True)
    rows = [
        _row(split, number, place, classes, random)
        for split in CLIPS
        for number, place in enumerate(_places(split, len(classes)))
    ]
    for row in rows:
        soundfile.write(audio / row["path"], _buzz(row, random), SAMPLE_RATE)
    frame = pl.DataFrame([{k: v for k, v in row.items() if k != "pitch"} for row in rows])
    manifest = Manifest(frame, classes, folder / "manifest.parquet", audio)
    manifest.write(folder / "manifest.parquet")
    return manifest


def _places(split: str, classes: int) -> list[int]:
    """Return the class of every clip of a split, -1 for none; later classes have more in train."""
    train = split == "train"
    places = [p for p in range(classes) for _ in range(CLIPS[split] + (p % 4 if train else 0))]
    return places + [-1] * (classes if train else 2)


def _row(
    split: str, number: int, place: int, classes: Sequence[str], random: np.random.Generator
) -> dict[str, Any]:
    """Return a row of the manifest, and the clip's pitch."""
    utterance, speaker = f"{split}-{number:03}", number % SPEAKERS[split]
    emotion = max(place, 0)
    ratings = 4 + 2 * np.sin(emotion + np.arange(3) * 2) + random.normal(0, 0.4, 3)
    rated = zip(("arousal", "valence", "dominance"), ratings.clip(1, 7).tolist(), strict=True)
    return {
        "utterance": utterance,
        "path": f"{utterance}.flac",
        "split": split,
        "speaker": f"{split}-{speaker}",
        "gender": ("female", "male")[speaker % 2],
        "emotion": None if place < 0 else classes[place],
        **dict(rated),
        "transcript": " ".join(random.choice(WORDS, 4).tolist()),
        **_votes(place, classes, random),
        SYNTHETIC: True,
        "pitch": 90 + 25 * emotion + 20 * (speaker % 2),
    }


def _votes(place: int, classes: Sequence[str], random: np.random.Generator) -> dict[str, int]:
    """Return the first and the further choices: most raters agree where there is a class."""
    first = random.integers(-1, len(classes), RATERS)  # -1: another emotion
    if place < 0:
        first[:4] = np.arange(4) % len(classes)  # no two agree, or no more than any other two
    else:
        first[:3] = place
    further = random.integers(-1, len(classes), RATERS)
    votes: dict[str, int] = {}
    for prefix, chosen in ((VOTE, first), (FURTHER, further)):
        votes |= {prefix + name: int((chosen == i).sum()) for i, name in enumerate(classes)}
        votes.setdefault(f"{prefix}other", int((chosen < 0).sum()))  # unless it is a class
    return votes


def _buzz(row: dict[str, Any], random: np.random.Generator) -> np.ndarray:
    # few lengths, so that models which cannot mask have batches too
    time = np.arange(SAMPLE_RATE * int(random.integers(4, 11)) // 10) / SAMPLE_RATE
    wave = sum(np.sin(2 * np.pi * row["pitch"] * k * time) / k for k in range(1, 9))
    louder: np.ndarray = wave * row["arousal"] / 60 + random.normal(0, 0.003, len(time))
    return louder.astype(np.float32)
