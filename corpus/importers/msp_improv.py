"""MSP-IMPROV: acted and improvised English dialogues, 12 speakers, 4 classes, votes, attributes."""

import re
from collections import Counter
from pathlib import Path

from ser.corpus.errors import UserError, plural, shown
from ser.corpus.importers.registry import GENDERS, build, find_clips, importer, rated
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
Labels = dict[str, object]  # by column


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
    turns, unreadable = _turns(read_text(path))
    rows = [_row(*clips[name], labels) for name, labels in turns if name in clips]
    if not rows and unreadable:
        raise UserError(f"{path}: '{unreadable[0]}' is not the line of a turn; restore the file.")
    if not rows:
        raise UserError(f"{path}: no turn in it has audio in {folder}; add the folders session1-6.")
    notes = []
    if len(rows) < len(turns):
        missing = len(turns) - len(rows)
        notes.append(f"left out, as there is no audio: {missing} of {len(turns)}")
    if unreadable:
        count = plural(len(unreadable), "line")
        notes.append(f"left out, as {path.name} is not readable there: {count}: {unreadable[0]}")
    names = tuple(CLASSES.values())
    return build(rows, names, folder, notes, corpus="msp-improv", language="en")


def _row(path: str, name: re.Match[str], labels: Labels) -> Labels:
    _, gender, session, scenario = name.groups()
    return {
        "utterance": name[0],
        "path": path,
        "split": SPLITS.get(session, "train"),
        "speaker": f"msp-improv-{gender}{session}",
        "gender": GENDERS[gender],
        "session": session,
        **labels,
        "scenario": scenario,
    }


def _turns(text: str) -> tuple[list[tuple[str, Labels]], list[str]]:
    """Read the turns, a line of consensus and then one for every rating; and damaged lines.

    A turn is its name, and the columns of its consensus and ratings.
    """
    turns, unreadable = [], []
    for part in re.split(r"^(?=UTD-IMPROV-)", text, flags=re.MULTILINE):
        turn = TURN.match(part)
        if not turn:
            line = part.partition("\n")[0]
            unreadable += [shown(line, 60)] if line.startswith("UTD-IMPROV-") else []
            continue
        name, letter, *attributes = turn.groups()
        votes: Counter[str] = Counter()
        for line in part.splitlines()[1:]:
            if rating := RATING.match(line):
                votes[CLASSES.get(rating[1][0].upper(), "other")] += 1
        ratings = rated(votes, CLASSES.values(), [float(value) for value in attributes])
        turns.append((name, {"emotion": CLASSES.get(letter), **ratings}))
    return turns, unreadable
