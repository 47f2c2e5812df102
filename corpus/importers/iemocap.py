"""IEMOCAP: acted and improvised English dialogues, 10 speakers, categories and attributes."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import GENDERS, build, importer, one_of, rated
from ser.corpus.manifest import Manifest

CODES = {
    "ang": "angry",
    "hap": "happy",
    "exc": "excited",
    "sad": "sad",
    "neu": "neutral",
    "fru": "frustrated",
    "sur": "surprise",
    "fea": "fear",
    "dis": "disgust",
}
FOUR = {"ang": "angry", "hap": "happy", "exc": "happy", "sad": "sad", "neu": "neutral"}
SPLITS = {1: "train", 2: "train", 3: "train", 4: "dev", 5: "test"}
TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\s+(Ses0(\d)\S+_([FM])\S+)\s+(\w+)\s+\[([^]]+)\]")
CHOICES = re.compile(r"C-E\d+:([^()\n]*)")
WORDS = re.compile(r"(Ses\S+) \[[^]]*\]:\s*(.*)")


@importer("iemocap")
def iemocap(folder: Path, classes: str = "4") -> Manifest:
    """Import the Interactive Emotional Dyadic Motion Capture Database.

    10,039 turns: five sessions of two speakers each, in scripted plays and improvisations.

    Files, under the unpacked `IEMOCAP_full_release`: `Session*/sentences/wav/*/*.wav`,
    `Session*/dialog/EmoEvaluation/*.txt`, and `Session*/dialog/transcriptions/*.txt` for words.
    Options: `classes`: "4" (angry, happy merged with excited, sad, neutral, as most papers;
    every other turn has a null emotion) or "all" (nine).
    Votes are those of the outside raters (lines C-E1 …), not of the actors; a rater who named two
    classes gives both a vote. Attributes are rated 1-5 and rescaled linearly to 1-7
    (x → 1.5 x - 0.5, cut to 1-7). A speaker is a session and a gender: Ses01F.
    Split: sessions 1-3 train, 4 dev, 5 test.

    Licence: of the University of Southern California, by signed form, for research. Cite:
    C. Busso et al., "IEMOCAP: interactive emotional dyadic motion capture database", Language
    Resources and Evaluation 42(4), 2008.
    """
    codes = FOUR if one_of("classes", classes, ("4", "all")) == "4" else CODES
    files = sorted(folder.glob("Session*/dialog/EmoEvaluation/Ses*.txt"))
    if not files:
        raise UserError(
            f"{folder}: no Session*/dialog/EmoEvaluation/*.txt in this folder; give the unpacked "
            "IEMOCAP_full_release."
        )
    words = _transcripts(folder)
    rows = [row for file in files for row in _turns(file, codes, words)]
    names = tuple(dict.fromkeys(codes.values()))
    return build(rows, names, folder, corpus="iemocap", language="en")


def _turns(
    file: Path, codes: dict[str, str], words_of: dict[str, str]
) -> Iterator[dict[str, object]]:
    """Read the turns of one dialogue: a line of consensus, then a line for every rating."""
    wav = f"{file.parents[2].name}/sentences/wav/{file.stem}"
    text = file.read_text("utf-8", errors="replace")
    # Split before each "[start - end]", so a part holds one turn and its ratings.
    for part in re.split(r"^(?=\[)", text, flags=re.MULTILINE):
        turn = TURN.match(part)
        if not turn:
            continue
        utterance, session, gender, code, attributes = turn.groups()
        try:
            valence, arousal, dominance = map(float, attributes.split(","))
        except ValueError as error:
            raise UserError(
                f"{file}: the attributes of {utterance} are '{attributes}', not three numbers; "
                "restore the file of the release."
            ) from error
        votes: Counter[str] = Counter()
        for rater in CHOICES.findall(part):
            words = (word.strip()[:3].lower() for word in rater.split(";") if word.strip())
            votes.update({codes.get(word, "other") for word in words})
        yield {
            "utterance": utterance,
            "path": f"{wav}/{utterance}.wav",
            "split": SPLITS.get(int(session), ""),
            "speaker": f"Ses0{session}{gender}",
            "session": f"Ses0{session}",
            "gender": GENDERS[gender],
            "emotion": codes.get(code),
            "transcript": words_of.get(utterance),
            **rated(votes, codes.values(), (arousal, valence, dominance)),
        }


def _transcripts(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("Session*/dialog/transcriptions/Ses*.txt"))
    texts = (file.read_text("utf-8", errors="replace") for file in files)
    return {name: words.strip() for text in texts for name, words in WORDS.findall(text)}
