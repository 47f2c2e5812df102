"""The demo corpus: eight emotions, up to twenty speakers, spoken by espeak-ng without a network.

1. Plan every clip from the seed: speaker, sentence and prosody. Both words and voice carry the
   emotion, neither of them completely: a third of the clips have a sentence that fits any emotion,
   some have one of another class, and the prosody of a class varies around each speaker's own.
2. Speak the plan in order, with a freshly loaded library: espeak's flutter continues from clip to
   clip, so only the same clips in the same order give the same bytes. A folder that lacks a clip of
   its plan is spoken again as a whole.
3. Write manifest.parquet last: where it equals the plan, the corpus is up to date.

The speech is a formant synthesizer's. It shows that the software works, and nothing about people.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from ser.corpus.columns import SYNTHETIC
from ser.corpus.config import MSP_CLASSES
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.corpus.progress import steps
from ser.synthetic.espeak import espeak
from ser.synthetic.sentences import ANYONE, SENTENCES

SHARED = 0.35  # share of the clips with a sentence that fits any emotion
IRONY = 0.10  # share with a sentence of another class


@dataclass(frozen=True)
class Voice:
    """A speaker: a voice of espeak with the base values of its prosody."""

    voice: str  # language + variant
    gender: str
    rate: int  # words a minute
    pitch: int  # espeak's 0-99


@dataclass(frozen=True)
class Prosody:
    """The prosody of a class, relative to the speaker's base values."""

    rate: float  # factor
    pitch: float  # steps of espeak's 0-99
    range: float  # 0-99; 50 is the voice's own
    volume: float  # factor
    gap: float  # extra silence between words, 10 ms


# Variants with `breath` are left out: espeak reads uninitialised memory for them, so their bytes
# differ from run to run.
VOICES = (
    Voice("en-us+Annie", "female", 172, 50),
    Voice("en-us+adam", "male", 168, 46),
    Voice("en-gb-x-rp+steph", "female", 164, 46),
    Voice("en-gb-x-rp+m7", "male", 174, 44),
    Voice("en-us+anika", "female", 154, 50),
    Voice("en-us+m3", "male", 162, 48),
    Voice("en-us+steph2", "female", 168, 44),
    Voice("en-gb-x-rp+rob", "male", 170, 50),
    Voice("en-us+f4", "female", 174, 48),
    Voice("en-us+m6", "male", 178, 46),
    Voice("en-us+f1", "female", 166, 50),
    Voice("en-us+paul", "male", 176, 48),
    Voice("en-us+steph", "female", 176, 52),
    Voice("en-gb-x-rp+m1", "male", 164, 42),
    Voice("en-us+aunty", "female", 162, 46),
    Voice("en-us+m1", "male", 170, 52),
    Voice("en-us+belinda", "female", 170, 44),
    Voice("en-gb-x-rp+max", "male", 174, 46),
    Voice("en-gb-x-rp+Annie", "female", 160, 54),
    Voice("en-us+quincy", "male", 160, 50),
)

PROSODY = {
    "angry": Prosody(1.14, 6, 74, 1.30, 0),
    "sad": Prosody(0.82, -9, 24, 0.66, 3),
    "happy": Prosody(1.08, 12, 78, 1.12, 0),
    "surprise": Prosody(0.98, 20, 92, 1.10, 1),
    "fear": Prosody(1.22, 18, 40, 0.76, 0),
    "disgust": Prosody(0.86, -6, 60, 1.00, 2),
    "contempt": Prosody(0.92, -3, 34, 0.90, 1),
    "neutral": Prosody(1.00, 0, 50, 1.00, 0),
}
JITTER = Prosody(0.06, 5, 9, 0.09, 0.5)  # standard deviations


def synthesize(folder: Path, speakers: int = 10, per_class: int = 5, seed: int = 0) -> Manifest:
    """Speak a corpus of `speakers * 8 * per_class` clips of 1-4 s into `folder`.

    Clips are `<folder>/audio/<utterance>.flac`, 16 bit, mono, espeak's 22.05 kHz; the manifest is
    `<folder>/manifest.parquet`, with the prosody in further columns. Of the speakers 60 % are
    train, 20 % dev, 20 % test. The same arguments give the same bytes, and a folder that already
    contains them is left as it is. espeak is not thread safe: make one call at a time.

    Raises `UserError` when espeakng-loader is not installed or there are no such voices.
    """
    if not 5 <= speakers <= len(VOICES):
        raise UserError(
            f"demo: {speakers} speakers are not possible; use 5 to {len(VOICES)}, so that "
            "every split has one."
        )
    path, audio = folder / "manifest.parquet", folder / "audio"
    manifest = Manifest(_plan(speakers, per_class, np.random.default_rng(seed)), MSP_CLASSES, path)
    if path.exists() and (existing := _existing(manifest, folder)) is not None:
        if SYNTHETIC not in existing.frame.columns:  # of an earlier version; the clips are the same
            manifest.write(path)
        return manifest
    audio.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # until all of the new audio is written, the folder is incomplete
    rows = steps(manifest.frame.to_dicts(), "speaking", manifest.frame.height, unit="clip")
    with espeak() as library:
        for row in rows:
            wave = library.synthesize(row)
            soundfile.write(audio / row["path"], wave, library.rate, subtype="PCM_16")
    manifest.write(path)
    return manifest


def _existing(manifest: Manifest, folder: Path) -> Manifest | None:
    """Return the manifest of a folder that contains the whole plan, otherwise None."""
    existing = Manifest.read(folder / "manifest.parquet", MSP_CLASSES)
    present = {file.name for file in (folder / "audio").glob("*.flac")}
    mark = pl.exclude(SYNTHETIC)
    same = existing.frame.select(mark).equals(manifest.frame.select(mark))
    return existing if same and present.issuperset(manifest.frame["path"]) else None


def _plan(speakers: int, per_class: int, random: np.random.Generator) -> pl.DataFrame:
    train, dev = round(0.6 * speakers), max(1, round(0.2 * speakers))
    splits = ["train"] * train + ["dev"] * dev + ["test"] * (speakers - train - dev)
    rows = []
    for number, (voice, split) in enumerate(zip(VOICES, splits, strict=False), 1):
        for emotion in MSP_CLASSES:
            for take in range(1, per_class + 1):
                utterance = f"speaker{number:02}-{emotion}-{take:02}"
                rows.append(
                    {
                        "utterance": utterance,
                        "path": f"{utterance}.flac",
                        "split": split,
                        "speaker": f"speaker{number:02}",
                        "gender": voice.gender,
                        "emotion": emotion,
                        "transcript": _sentence(emotion, random),
                        **_prosody(voice, emotion, random),
                        SYNTHETIC: True,
                    }
                )
    return pl.DataFrame(rows)


def _sentence(emotion: str, random: np.random.Generator) -> str:
    chance = random.random()
    if chance < SHARED:
        return str(random.choice(ANYONE))
    if chance < SHARED + IRONY:
        emotion = str(random.choice([c for c in MSP_CLASSES if c != emotion]))
    return str(random.choice(SENTENCES[emotion]))


def _prosody(voice: Voice, emotion: str, random: np.random.Generator) -> dict[str, object]:
    base = PROSODY[emotion]
    rate, pitch, range_, volume, gap = random.standard_normal(5)
    return {
        "voice": voice.voice,
        "rate": round(voice.rate * (base.rate + JITTER.rate * rate)),
        "pitch": int(np.clip(voice.pitch + base.pitch + JITTER.pitch * pitch, 0, 99)),
        "range": int(np.clip(base.range + JITTER.range * range_, 0, 99)),
        "volume": int(np.clip(75 * (base.volume + JITTER.volume * volume), 20, 110)),
        "gap": max(0, round(base.gap + JITTER.gap * gap)),
    }
