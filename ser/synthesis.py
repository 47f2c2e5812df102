"""The demo corpus: eight emotions, up to twenty speakers, spoken by espeak-ng without a network.

1. Plan every clip from the seed: who says what, and how. Words and voice both tell the emotion, and
   neither tells all of it: a third of the clips say a sentence that fits any emotion, some say
   another class's, and the prosody of a class is jittered around each speaker's own.
2. Speak the plan in order, with a library freshly loaded: espeak's flutter runs on from clip to
   clip, so only the same clips in the same order are the same bytes, and a folder either holds all
   of its plan or is spoken again.
3. Write manifest.parquet last: where it says what the plan says, nothing is to do.

The speech is a formant synthesizer's. It shows that the machinery works, and nothing about people.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
from tqdm import tqdm

from corpus.config import MSP_CLASSES
from corpus.errors import UserError
from corpus.manifest import Manifest

SHARED = 0.35  # of the clips say a sentence of no emotion
IRONY = 0.10  # and these say one of another emotion


@dataclass(frozen=True)
class Voice:
    """Describe one speaker: a voice of espeak and where its prosody starts from."""

    voice: str  # language + variant
    gender: str
    rate: int  # words a minute
    pitch: int  # espeak's 0-99


@dataclass(frozen=True)
class Prosody:
    """Say how a class is spoken, relative to the speaker's own way."""

    rate: float  # factor
    pitch: float  # steps of espeak's 0-99
    range: float  # 0-99, 50 as the voice has it
    volume: float  # factor
    gap: float  # extra silence between words, 10 ms


# Variants with `breath` are left out: espeak reads memory there that it has not set, so their bytes
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

ANYONE = (
    "The kids are talking by the door.",
    "We are meeting at seven this evening.",
    "They moved the table into the kitchen.",
    "My brother called me on Monday morning.",
    "The train leaves from platform four.",
    "There is a letter for you on the desk.",
    "She said that she would come back later.",
    "The shop around the corner is open now.",
    "He has left his coat in the car.",
    "It is going to rain in the afternoon.",
    "Somebody wrote a number on the board.",
    "That is what they told us yesterday.",
)

SENTENCES = {
    "angry": (
        "I told you twice and you never listened.",
        "Stop shouting at me this minute.",
        "You broke it and then you lied to me.",
        "How dare you speak to me like that.",
        "I have had enough of your excuses.",
        "Get your hands off my things right now.",
        "I am furious with every one of you.",
        "Don't you ever do that to me again.",
        "This is an outrage and you know it.",
        "Leave me alone and shut the door.",
    ),
    "sad": (
        "I miss her more every single day.",
        "There is nothing left for me here.",
        "We buried our old dog this morning.",
        "I cried all night and could not sleep.",
        "Nobody came to say goodbye to him.",
        "I feel so lonely in this empty house.",
        "It hurts to think about what we lost.",
        "I am sorry that it ended like this.",
        "He was my best friend and he is gone.",
        "I don't think I will ever be happy again.",
    ),
    "happy": (
        "We won the cup and we danced all night.",
        "I love this song, it makes me smile.",
        "She said yes, we are getting married.",
        "This is the best day of my life.",
        "I am so glad that you are here with us.",
        "What a wonderful party, thank you so much.",
        "The baby laughed for the first time today.",
        "I got the job and I could sing with joy.",
        "Everything worked out, it is fantastic.",
        "The sun is out and we are off to the beach.",
    ),
    "surprise": (
        "Wow, I did not expect to see you here.",
        "Is it really you after all these years?",
        "You bought a boat? I can't believe it.",
        "What? Nobody told me about any of this.",
        "Oh my goodness, where did that come from?",
        "I had no idea that you could play the piano.",
        "Are you serious? He is a hundred years old?",
        "Suddenly the whole room lit up, amazing.",
        "How on earth did you get up there?",
        "I never would have guessed that it was you.",
    ),
    "fear": (
        "Somebody is moving around downstairs.",
        "Please don't leave me alone in the dark.",
        "I think that he is following us, run.",
        "I am scared that the ice will break.",
        "Help me, I can't hold on much longer.",
        "What was that noise behind the wall?",
        "My hands are shaking, I want to get out.",
        "Don't move, there is a snake by your foot.",
        "I am terrified of going back in there.",
        "They are going to find us, please hide.",
    ),
    "disgust": (
        "The milk is sour and it smells awful.",
        "There is a rotten fish under the sink.",
        "That is revolting, take it off my plate.",
        "I found a long hair in my soup again.",
        "The toilet was filthy, it made me sick.",
        "Ugh, he spits on the floor when he eats.",
        "There are worms in this apple, how gross.",
        "Don't touch that, it is covered in slime.",
        "The whole kitchen stinks of old garbage.",
        "It tastes like dirt, I want to throw up.",
    ),
    "contempt": (
        "You really think that you can beat me?",
        "People like you never get anything right.",
        "I would not waste my time with that fool.",
        "What a pathetic little speech that was.",
        "He calls himself an expert, how ridiculous.",
        "I expected nothing and you still failed.",
        "Only an amateur would be proud of this.",
        "She is beneath me and she knows it.",
        "Your opinion is worthless to anyone here.",
        "Go on, embarrass yourself once more.",
    ),
    "neutral": (
        "The meeting starts at nine in room two.",
        "Please put the boxes next to the window.",
        "The report has twelve pages and a table.",
        "You can change trains at the next station.",
        "The office is on the second floor.",
        "I usually take the bus to work.",
        "The form needs a name and an address.",
        "There are thirty days in the month of June.",
        "The library closes at six on Fridays.",
        "Turn left after the bank and keep walking.",
    ),
}


def synthesize(folder: Path, speakers: int = 10, per_class: int = 5, seed: int = 0) -> Manifest:
    """Speak a corpus of `speakers * 8 * per_class` clips of 1-4 s into `folder`.

    Clips are `<folder>/audio/<utterance>.flac`, 16 bit, mono, 22.05 kHz as espeak gives them; the
    manifest is `<folder>/manifest.parquet`, its further columns saying how each was spoken. Of the
    speakers 60 % are train, 20 % dev, 20 % test. The same arguments give the same bytes, and a
    folder that holds them already is left as it is. espeak is not thread safe: one call at a time.

    Raises `UserError` when espeakng-loader is not installed or there are no such voices.
    """
    if not 5 <= speakers <= len(VOICES):
        raise UserError(
            f"demo: {speakers} speakers are not possible; ask for 5 to {len(VOICES)}, so that "
            "every split has one."
        )
    path = folder / "manifest.parquet"
    manifest = Manifest(_plan(speakers, per_class, np.random.default_rng(seed)), MSP_CLASSES, path)
    if path.exists() and _spoken(manifest, folder):
        return manifest
    audio = folder / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # until all of the new audio is there, the folder is not done
    with _espeak() as espeak:
        for row in tqdm(manifest.frame.to_dicts(), "speaking", unit="clip", disable=None):
            soundfile.write(audio / row["path"], espeak.say(row), espeak.rate, subtype="PCM_16")
    manifest.write(path)
    return manifest


def _spoken(manifest: Manifest, folder: Path) -> bool:
    found = Manifest.read(folder / "manifest.parquet", MSP_CLASSES)
    present = {file.name for file in (folder / "audio").glob("*.flac")}
    return found.frame.equals(manifest.frame) and present.issuperset(manifest.frame["path"])


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
                        "transcript": _words(emotion, random),
                        **_manner(voice, emotion, random),
                    }
                )
    return pl.DataFrame(rows)


def _words(emotion: str, random: np.random.Generator) -> str:
    chance = random.random()
    if chance < SHARED:
        return str(random.choice(ANYONE))
    if chance < SHARED + IRONY:
        emotion = str(random.choice([c for c in MSP_CLASSES if c != emotion]))
    return str(random.choice(SENTENCES[emotion]))


def _manner(voice: Voice, emotion: str, random: np.random.Generator) -> dict[str, Any]:
    way = PROSODY[emotion]
    rate, pitch, range_, volume, gap = random.standard_normal(5)
    return {
        "voice": voice.voice,
        "rate": round(voice.rate * (way.rate + JITTER.rate * rate)),
        "pitch": int(np.clip(voice.pitch + way.pitch + JITTER.pitch * pitch, 0, 99)),
        "range": int(np.clip(way.range + JITTER.range * range_, 0, 99)),
        "volume": int(np.clip(75 * (way.volume + JITTER.volume * volume), 20, 110)),
        "gap": max(0, round(way.gap + JITTER.gap * gap)),
    }


# constants of espeak-ng's speak_lib.h
SYNCHRONOUS = 2
DONT_EXIT = 0x8000
UTF8 = 1
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4, "gap": 7}
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _Espeak:
    """Hold the library, loaded and initialised, and the samples that it hands over."""

    def __init__(self, library: ctypes.CDLL, data: str) -> None:
        self._library = library
        self._samples: list[bytes] = []
        self._callback = CALLBACK(self._take)  # must live as long as the library may call it
        self.rate = int(library.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), DONT_EXIT))
        if self.rate <= 0:
            raise UserError(
                f"{data}: espeak-ng cannot read its data; install it again with "
                "`pip install --force-reinstall espeakng-loader`."
            )
        library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: Any, count: int, events: int | None) -> int:
        if samples and count > 0:
            self._samples.append(ctypes.string_at(samples, 2 * count))
        return 0  # go on

    def say(self, row: dict[str, Any]) -> np.ndarray:
        """Speak a row of the plan: int16 `(samples,)`."""
        self._samples.clear()
        text = row["transcript"].encode() + b"\0"
        failed = self._library.espeak_SetVoiceByName(row["voice"].encode())
        for name, number in PARAMETERS.items():
            failed |= self._library.espeak_SetParameter(number, row[name], 0)
        failed |= self._library.espeak_Synth(text, len(text), 0, 1, 0, UTF8, None, None)
        if failed or not self._samples:
            raise RuntimeError(f"espeak-ng gave no speech for {row['utterance']} ({row['voice']})")
        return np.frombuffer(b"".join(self._samples), np.int16)


@contextmanager
def _espeak() -> Iterator[_Espeak]:
    """Load espeak-ng in its first state, and take it out of the process again."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError(
            "demo: espeakng-loader, which speaks the demo corpus, is not installed; run "
            "`pip install 'ser[demo]'`."
        ) from error
    from _ctypes import dlclose  # ctypes opens libraries and offers no other way to close one

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        espeak = _Espeak(library, espeakng_loader.get_data_path())
        yield espeak
    finally:
        library.espeak_Terminate()
        dlclose(library._handle)
