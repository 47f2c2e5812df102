"""MELD: English dialogues of a TV series, 7 classes, official splits that share speakers."""

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ser.corpus.cells import counted
from ser.corpus.errors import UserError, listed, plural, shown
from ser.corpus.importers.registry import audio_files, build, importer
from ser.corpus.manifest import Manifest
from ser.corpus.tables import named_columns, read_table

EMOTIONS = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "joy": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "surprise",
}
GENDERS = {
    **dict.fromkeys(("Monica", "Phoebe", "Rachel"), "female"),
    **dict.fromkeys(("Chandler", "Joey", "Ross"), "male"),
}
SPLITS = ("train", "dev", "test")
NUMBERS = ("Dialogue_ID", "Utterance_ID", "Season", "Episode")
COLUMNS = ("Utterance", "Speaker", "Emotion", *NUMBERS)
NUMBER = re.compile(r"[0-9]{1,9}")
CLIP = re.compile(r"dia(\d+)_utt(\d+)")
RESTORE = "restore the file of the release"
Clip = tuple[str, int, int]  # split, dialogue, utterance
Row = dict[str, str | None]


@importer("meld")
def meld(folder: Path) -> Manifest:
    """Import the Multimodal EmotionLines Dataset.

    13,708 utterances of the series Friends; the six main characters speak five of six of them.

    Files: `MELD.Raw.tar.gz` unpacked, with the archives in it: `train_sent_emo.csv`,
    `dev_sent_emo.csv` and `test_sent_emo.csv` anywhere in `folder`, and clips named dia0_utt0 in a
    folder for each split whose name has train, dev or test in it, as `train_splits`. Clips may be
    the mp4 of the release (extra `media`) or wav or flac made of them; wav and flac are preferred.
    Utterances without a clip are left out. Ids are train-dia0_utt0.
    Column `session`: season and episode, as s08e21.
    Split: the corpus's own. It shares speakers between train, dev and test, which `ser corpus
    check` reports as an error: its scores are not speaker-independent.

    Licence: GPL-3.0 for the annotations; the clips are of a TV series. Cite: S. Poria et al.,
    "MELD: a multimodal multi-party dataset for emotion recognition in conversations", ACL 2019.
    """
    clips = _clips(folder)
    annotated = [pair for split in SPLITS for pair in _annotations(folder, split)]
    unknown = [row["emotion"] for _, row in annotated if row["emotion"] not in EMOTIONS]
    missing = [str(row["utterance"]) for clip, row in annotated if clip not in clips]
    rows = [
        {**row, "emotion": EMOTIONS.get(row["emotion"] or ""), "path": clips[clip]}
        for clip, row in annotated
        if clip in clips
    ]
    if not rows:
        raise UserError(
            f"{folder}: none of the clips is called like train_splits/dia0_utt0.mp4; unpack the "
            "archives in MELD.Raw."
        )
    notes = []
    if missing:
        count = plural(len(missing), "utterance")
        notes.append(f"left out, as there is no clip: {count}: {listed(missing, 5)}")
    if unknown:
        notes.append(f"no class for {counted(pl.Series('emotion', unknown))}: MELD has no such one")
    classes = tuple(EMOTIONS.values())
    return build(rows, classes, folder, notes, corpus="meld", language="en")


def _annotations(folder: Path, split: str) -> Iterator[tuple[Clip, Row]]:
    """Yield the clip and the row of every utterance of a split, the emotion as it is there."""
    tables = sorted(folder.rglob(f"{split}_sent_emo.csv"), key=lambda path: len(path.parts))
    if not tables:
        raise UserError(
            f"{folder}: there is no {split}_sent_emo.csv in it; give the folder of MELD that has "
            "the three tables and the clips."
        )
    path = tables[0]
    frame = read_table(path, ",", _encoding(path)).frame
    frame = named_columns(frame, COLUMNS, path, RESTORE)
    for text, speaker, emotion, *numbers in frame.fill_null("").iter_rows():
        if not all(NUMBER.fullmatch(number) for number in numbers):
            values = ", ".join(
                f"{n} '{shown(v, 20)}'" for n, v in zip(NUMBERS, numbers, strict=True)
            )
            raise UserError(f"{path}: '{shown(text, 40)}' has {values}; {RESTORE}.")
        dialogue, number, season, episode = map(int, numbers)
        row: Row = {
            "utterance": f"{split}-dia{dialogue}_utt{number}",
            "split": split,
            "speaker": f"meld-{speaker}" if speaker else None,
            "gender": GENDERS.get(speaker),
            "emotion": emotion.lower(),
            "transcript": text,
            "session": f"s{season:02d}e{episode:02d}",
        }
        yield (split, dialogue, number), row


def _encoding(path: Path) -> str | None:
    """Return the encoding of a table: some copies have the apostrophes of Windows."""
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return None


def _clips(folder: Path) -> dict[Clip, str]:
    """Find every clip: its path."""
    clips: dict[Clip, str] = {}
    for path in audio_files(folder):
        match = CLIP.fullmatch(path.stem)
        relative = path.relative_to(folder)
        split = _split(relative.parts[:-1])
        if match and split:
            clips.setdefault((split, int(match[1]), int(match[2])), relative.as_posix())
    return clips


def _split(folders: tuple[str, ...]) -> str | None:
    """Return the split that the innermost of the folders names."""
    return next((s for name in reversed(folders) for s in SPLITS if s in name.lower()), None)
