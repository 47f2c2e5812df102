"""EmoDB: acted German speech, 10 actors, 7 classes, everything in the file names."""

import re
from pathlib import Path

from corpus.importers.registry import build, find_clips, importer
from corpus.manifest import Manifest

EMOTIONS = {  # the letters are those of the German words: Wut, Langeweile, Ekel, Angst, …
    "W": "angry",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
WOMEN = ("08", "09", "13", "14", "16")
SPLITS = {"12": "dev", "14": "dev", "15": "test", "16": "test"}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
NAME = re.compile(r"(03|08|09|1[0-6])([ab]\d\d)([WLEAFTN])([a-z])")


@importer("emodb")
def emodb(folder: Path) -> Manifest:
    """Import the Berlin Database of Emotional Speech.

    535 clips: 10 actors (5 women), ten sentences whose words carry no emotion, seven classes.
    A folder with some of the classes or speakers gives a manifest of those.

    Files: `download.zip` unpacked; wav or flac in any subfolder, named by speaker, text code,
    emotion letter and version (03a01Fa.wav).
    Split: speakers 12 (m) and 14 (f) dev, 15 (m) and 16 (f) test, the six others train.

    Licence: free to download; its authors ask for the citation. Cite: F. Burkhardt, A. Paeschke,
    M. Rolfes, W. Sendlmeier, B. Weiss, "A database of German emotional speech", Interspeech 2005.
    """
    clips = find_clips(folder, NAME, "03a01Fa.wav")
    rows = []
    for path, name in clips.items():
        speaker, text, letter, _ = name.groups()
        rows.append(
            {
                "utterance": name[0],
                "path": path,
                "split": SPLITS.get(speaker, "train"),
                "speaker": f"emodb-{speaker}",
                "gender": "female" if speaker in WOMEN else "male",
                "emotion": EMOTIONS[letter],
                "transcript": SENTENCES.get(text),
            }
        )
    return build(rows, tuple(EMOTIONS.values()), folder)
