"""RAVDESS: acted English speech, 24 actors, 8 classes, labelled by file name."""

import re
from pathlib import Path

from ser.corpus.importers.registry import build, find_clips, importer
from ser.corpus.manifest import Manifest

CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
NAME = re.compile(r"03-01-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")


@importer("ravdess")
def ravdess(folder: Path) -> Manifest:
    """Import the speech of the Ryerson Audio-Visual Database of Emotional Speech and Song.

    1,440 clips: 24 actors, two sentences, each emotion at two intensities (neutral at one). The
    words carry no emotion. Song (channel 02) and video (modality 01, 02) are skipped.

    Files: `Audio_Speech_Actors_01-24.zip` unpacked; wav or flac in any subfolder, named
    modality-channel-emotion-intensity-statement-repetition-actor (03-01-05-02-01-01-12.wav).
    Columns beside the usual: intensity (normal | strong), the actor's, not a rating.
    Split: actors 1-16 train, 17-20 dev, 21-24 test; half of each are women (even numbers).

    Licence: CC BY-NC-SA 4.0. Cite: S. R. Livingstone, F. A. Russo, "The Ryerson Audio-Visual
    Database of Emotional Speech and Song (RAVDESS)", PLoS ONE 13(5), 2018.
    """
    clips = find_clips(folder, NAME, "03-01-05-02-01-01-12.wav")
    rows = []
    for path, name in clips.items():
        emotion, intensity, statement, _, actor = name.groups()
        rows.append(
            {
                "utterance": name[0],
                "path": path,
                "split": _split(int(actor)),
                "speaker": f"ravdess-{actor}",
                "gender": "male" if int(actor) % 2 else "female",
                "emotion": CLASSES[int(emotion) - 1],
                "transcript": STATEMENTS[statement],
                "intensity": "normal" if intensity == "01" else "strong",
            }
        )
    return build(rows, CLASSES, folder, corpus="ravdess", language="en")


def _split(actor: int) -> str:
    if actor <= 16:
        return "train"
    return "dev" if actor <= 20 else "test"
