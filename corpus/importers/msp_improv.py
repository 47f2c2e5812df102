"""MSP-IMPROV: acted and improvised English dialogues, 12 speakers, 4 classes, votes, attributes."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from ser.corpus.columns import VOTE
from ser.corpus.errors import UserError, plural, shown
from ser.corpus.importers.registry import build, find_clips, importer, seven_of_five
from ser.corpus.manifest import Manifest
from ser.corpus.tables import read_text

CLASSES = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
SPLITS = {"05": "dev", "06": "test"}  # by session
LABELS = ("Evaluation.txt", "Evalution.txt")  # one is a slip of the pen of a release
NAME = re.compile(r"MSP-IMPROV-(S\d\d[AHNS]-([FM])(\d\d)-([A-Z])-[FM]{2}\d+)")
NUMBER = r"\s*(\d+(?:\.\d+)?|NaN)\s*"
TURN = re.compile(
    rf"UTD-IMPROV-([\w-]+)\.avi;\s*(\w)\s*;\s*A:{NUMBER};\s*V:{NUMBER};\s*D:{NUMBER};", re.ASCII
)
RATING = re.compile(r"[^;]+;\s*([A-Za-z]+)\s*;")


@importer("msp-improv")
def msp_improv(folder: Path) -> Manifest:
    """Import the MSP-IMPROV corpus.

    8,438 turns: six sessions of a woman and a man each, in scenes that lead to target sentences, in
    free parts of these scenes, between them, and read.

    Files: `Evaluation.txt` and `session*/*/*/MSP-IMPROV-*.wav`, as released; the audio may lie in
    any subfolder. A turn without audio is left out.
    Columns beside the usual: `scenario`, the letter of the file name for the way of recording.
    The emotion is the consensus; null where it is "other" or there is none. Votes are the raters'
    first choices. Attributes are rated 1-5 there and rescaled linearly to 1-7 here
    (x → 1.5 x - 0.5).
    Split: sessions 1-4 train, 5 dev, 6 test.

    Licence: of the University of Texas at Dallas, by signed form, for research. Cite: C. Busso et
    al., "MSP-IMPROV: an acted corpus of dyadic interactions to study emotion perception", IEEE
    Transactions on Affective Computing 8(1), 2017.
    """
    path = next((p for n in LABELS for p in sorted(folder.rglob(n))), None)
    if path is None:
        raise UserError(
            f"{folder}: there is no {LABELS[0]} in it; give the folder of MSP-IMPROV that has it "
            "and the sessions."
        )
    clips = {
        match[1]: (file, match)
        for file, match in find_clips(folder, NAME, "MSP-IMPROV-S01A-F01-P-FM01.wav").items()
    }
    rows, missing = [], 0
    turns, unreadable = _turns(read_text(path))
    for name, labels in turns:
        if name not in clips:
            missing += 1
            continue
        file, match = clips[name]
        _, gender, session, scenario = match.groups()
        rows.append(
            {
                "utterance": match[0],
                "path": file,
                "split": SPLITS.get(session, "train"),
                "speaker": f"msp-improv-{gender}{session}",
                "gender": "female" if gender == "F" else "male",
                "session": session,
                **labels,
                "scenario": scenario,
            }
        )
    if not rows and unreadable:
        raise UserError(f"{path}: '{unreadable[0]}' is not the line of a turn; restore the file.")
    if not rows:
        raise UserError(f"{path}: no turn in it has audio in {folder}; add the folders session1-6.")
    names = tuple(CLASSES.values())
    manifest = build(rows, names, folder, corpus="msp-improv", language="en")
    notes = []
    if missing:
        notes.append(f"left out, as there is no audio: {missing} of {missing + len(rows)}")
    if unreadable:
        count = plural(len(unreadable), "line")
        notes.append(f"left out, as {path.name} is not readable there: {count}: {unreadable[0]}")
    manifest.notes = tuple(notes)
    return manifest


def _turns(text: str) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Read the turns: a line of consensus, then a line for every rating.

    Returns name and labels of every turn, and the lines of consensus that are damaged.
    """
    turns: list[tuple[str, dict[str, Any]]] = []
    unreadable = []
    for part in re.split(r"^(?=UTD-IMPROV-)", text, flags=re.MULTILINE):
        turn = TURN.match(part)
        if not turn:
            line = part.partition("\n")[0]
            unreadable += [shown(line, 60)] if line.startswith("UTD-IMPROV-") else []
            continue
        name, letter, *attributes = turn.groups()
        arousal, valence, dominance = (seven_of_five(float(value)) for value in attributes)
        votes: Counter[str] = Counter()
        for line in part.splitlines()[1:]:
            if rating := RATING.match(line):
                votes[CLASSES.get(rating[1][0].upper(), "other")] += 1
        labels = {
            "emotion": CLASSES.get(letter),
            "arousal": arousal,
            "valence": valence,
            "dominance": dominance,
            **{VOTE + n: votes[n] for n in (*CLASSES.values(), "other")},
        }
        turns.append((name, labels))
    return turns, unreadable
