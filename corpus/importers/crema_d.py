"""CREMA-D: acted English speech, 91 actors, 6 classes, about ten votes per clip."""

import re
from pathlib import Path

import polars as pl

from ser.corpus.cells import numbers
from ser.corpus.columns import VOTE
from ser.corpus.errors import UserError
from ser.corpus.importers.registry import build, find_clips, importer, one_of
from ser.corpus.manifest import Manifest
from ser.corpus.tables import named_columns, read_table

CODES = {
    "ANG": "angry",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
CLASSES = tuple(CODES.values())
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high"}  # XX: unspecified
MODALITIES = {"voice": "1", "face": "2", "both": "3"}  # first digit of a row's name
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
RESTORE = "restore the file from the corpus's repository"
NAME = re.compile(r"(1\d{3})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)")


@importer("crema-d")
def crema_d(folder: Path, label: str = "intended", modality: str = "voice") -> Manifest:
    """Import the Crowd-sourced Emotional Multimodal Actors Dataset.

    7,442 clips: 91 actors (43 women), twelve sentences whose words carry no emotion, six classes.

    Files: `AudioWAV/1001_DFA_ANG_XX.wav`; for votes `processedResults/tabulatedVotes.csv` (or
    `tabulatedVotes.csv`); for gender `VideoDemographics.csv`.
    Options: `label`: "intended" (the actor's instruction) or "perceived" (what most raters chose;
    null on a tie). By voice the two agree for 42 % of the clips: report which one you use.
    `modality`: the votes of raters who were given the "voice", the "face", or "both".
    Raters chose one of the six classes, so no vote is for another emotion.
    Columns beside the usual: intensity (low | medium | high), the actor's.
    Split: actors 1001-1063 train, 1064-1077 dev, 1078-1091 test.

    Licence: Open Database License. Cite: H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur,
    A. Nenkova, R. Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE
    Transactions on Affective Computing 5(4), 2014.
    """
    label = one_of("label", label, ("intended", "perceived"))
    modality = one_of("modality", modality, tuple(MODALITIES))
    frame = _clips(folder, _genders(folder))
    tables = [folder / "processedResults" / "tabulatedVotes.csv", folder / "tabulatedVotes.csv"]
    votes = next((path for path in tables if path.is_file()), None)
    if votes is not None:
        frame = frame.join(read_votes(votes, modality), on="utterance", how="left")
    if label == "perceived":
        if votes is None:
            raise UserError(
                f"{tables[0]}: there is no such file, and perceived labels need its votes; add it "
                "from the corpus's repository or use label=intended."
            )
        frame = frame.with_columns(_plurality().alias("emotion"))
    return build(frame.sort("utterance"), CLASSES, folder, corpus="crema-d", language="en")


def read_votes(path: Path, modality: str = "voice") -> pl.DataFrame:
    """Read tabulatedVotes.csv: `utterance` and `votes.<class>`, one row per clip.

    A row is named by modality and clip number ("100001": voice, first clip); a clip that two groups
    of raters judged has two rows, which are summed.
    """
    table = read_table(path).frame
    letters = {name[0].upper(): VOTE + name for name in CLASSES}
    votes = named_columns(table, ("fileName", *letters), path, RESTORE)
    counts = [numbers(votes[x], votes["fileName"], str(path)).alias(n) for x, n in letters.items()]
    return (
        pl.DataFrame([table.to_series(0).alias("row"), votes["fileName"].alias("utterance")])
        .with_columns(count.cast(pl.Int64) for count in counts)
        .filter(pl.col("row").str.starts_with(MODALITIES[modality]))
        .group_by("utterance", maintain_order=True)
        .agg(pl.col(VOTE + name).sum() for name in CLASSES)
    )


def _clips(folder: Path, genders: dict[str, str]) -> pl.DataFrame:
    audio = folder / "AudioWAV"
    if not audio.is_dir():
        raise UserError(
            f"{audio}: there is no such folder; give the CREMA-D folder that contains AudioWAV."
        )
    rows = []
    for path, name in find_clips(audio, NAME, "1001_DFA_ANG_XX.wav").items():
        actor, sentence, code, intensity = name.groups()
        rows.append(
            {
                # One file is called 1040_ITH_SAD_X.wav, and …_XX in the table of votes.
                "utterance": f"{actor}_{sentence}_{code}_{intensity:X<2}",
                "path": f"AudioWAV/{path}",
                "split": _split(int(actor)),
                "speaker": f"crema-d-{actor}",
                "gender": genders.get(actor),
                "emotion": CODES[code],
                "transcript": SENTENCES.get(sentence),
                "intensity": INTENSITIES.get(intensity),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _genders(folder: Path) -> dict[str, str]:
    path = folder / "VideoDemographics.csv"
    if not path.is_file():
        return {}
    table = read_table(path).frame
    table = named_columns(table, ("ActorID", "Sex"), path, "restore or delete it")
    return dict(table.select("ActorID", pl.col("Sex").str.to_lowercase()).rows())


def _plurality() -> pl.Expr:
    """Name the class with more votes than every other; null on a tie or without votes."""
    votes = [pl.col(VOTE + name) for name in CLASSES]
    most = pl.max_horizontal(votes)
    winners = pl.sum_horizontal(vote == most for vote in votes)
    name = pl.coalesce(
        pl.when(vote == most).then(pl.lit(n)) for n, vote in zip(CLASSES, votes, strict=True)
    )
    return pl.when((winners == 1) & (most > 0)).then(name)


def _split(actor: int) -> str:
    if actor <= 1063:
        return "train"
    return "dev" if actor <= 1077 else "test"
