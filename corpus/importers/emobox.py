"""EmoBox: published folds of 32 corpora in 14 languages, from a checkout of its repository.

data/<dataset>/<dataset>.jsonl                                 every utterance: key, wav, emo
data/<dataset>/fold_<n>/<dataset>_<part>_fold_<n>.jsonl        those of train, valid or test
data/<dataset>/label_map.json                                  emo -> class

Speaker and language are not in these files; they are read from the paths, by the patterns in
`emobox.yaml` beside this module.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ValidationError

from ser.corpus.bounded_yaml import parse_yaml, shorten
from ser.corpus.cells import counted
from ser.corpus.columns import COLUMNS
from ser.corpus.config import describe, stays_within
from ser.corpus.errors import CONTROL, UserError, listed, nearest
from ser.corpus.importers.files import spec_of
from ser.corpus.importers.registry import build, importer
from ser.corpus.importers.spec import PATH, FileSpec, fill_columns, match_paths
from ser.corpus.manifest import Manifest

PARTS = {"train": "train", "valid": "dev", "test": "test"}  # of a fold: the manifest's split
LABEL_MAPS = ("label_map.json", "label_dict.json")
NO_CLASS = ("no-agreement", "other", "unknown")  # classes of EmoBox that are none
SCHEMA = {n: COLUMNS[n] for n in ("utterance", "path", "start", "end", "split", "emotion", "fold")}
LARGEST = 64 * 2**20  # bytes of a file
RESTORE = "restore the file of the repository"


class Utterance(BaseModel):
    """A line of a jsonl; a few files of the repository have other names for two of the fields."""

    key: str
    wav: str | None = None
    audio: str | None = None
    emo: str | None = None
    label: str | None = None
    start_time: float | None = None
    end_time: float | None = None


@importer("emobox")
def emobox(folder: Path, *, dataset: str = "", fold: int | None = None) -> Manifest:
    """Import one of EmoBox's 32 data sets, with its folds.

    Files: a checkout of github.com/emo-box/EmoBox, which has `data/<dataset>`; the audio of the
    corpus lies in its folder `downloads`, as the README of EmoBox describes.
    Options: `dataset`: the name of a folder in `data`, as emovo. `fold`: the fold whose parts
    become the split.
    Column `fold`: the fold whose test part has the utterance. Classes are EmoBox's, in small
    letters; "no agreement" and "other" are none. The speaker is null where no path has it.
    Split: that of `fold`, or of the only fold; none otherwise. EmoBox publishes dev for three data
    sets only and draws it from train at random for the others.

    Licence: MIT for the folds; the audio has its own. Cite, with the corpus: Z. Ma et al., "EmoBox:
    multilingual multi-corpus speech emotion recognition toolkit and benchmark", Interspeech 2024.
    """
    home = _home(folder, dataset)
    folds = _folds(home)
    if fold is not None and str(fold) not in folds:
        raise UserError(f"{home}: there is no fold {fold}; its folds are: {listed(folds)}.")
    chosen = str(fold) if fold is not None else next(iter(folds)) if len(folds) == 1 else None
    rows: dict[str, dict[str, object]] = {}
    paths = [home / f"{dataset}.jsonl", *(p for parts in folds.values() for p in parts.values())]
    for path in paths:
        for utterance in _read(path):
            rows.setdefault(utterance.key, _row(utterance, path))
    if not rows:
        raise UserError(f"{home}: its jsonl files have no utterance; {RESTORE}.")
    for number, parts in folds.items():
        for part, path in parts.items():
            for utterance in _read(path):
                row = rows[utterance.key]
                row |= {"fold": number} if part == "test" else {}
                row |= {"split": PARTS[part]} if number == chosen else {}
    frame = pl.DataFrame(list(rows.values()), schema=SCHEMA)
    frame = _with_path_columns(frame, dataset)
    labels, classes = _label_map(home)
    emotion = frame["emotion"].str.to_lowercase()
    unknown = frame["emotion"].filter(~emotion.is_in(list(labels)))
    notes = [f"no class for {counted(unknown)}: no label map has it"] if len(unknown) else []
    if chosen is None:
        notes.append(
            f"no split: EmoBox has {len(folds)} folds, in the column fold; fold=1 takes the parts "
            "of one as the split"
        )
    named = emotion.replace_strict(labels, default=None, return_dtype=pl.String)
    frame = frame.with_columns(named.alias("emotion"))
    notes += _shared_speakers(frame)
    return build(frame, classes, folder, notes, corpus=dataset)


def _home(folder: Path, dataset: str) -> Path:
    data = folder / "data"
    names = sorted(path.parent.parent.name for path in data.glob("*/fold_1/*_test_fold_1.jsonl"))
    names = list(dict.fromkeys(names))
    if not names:
        raise UserError(
            f"{data}: there is no <dataset>/fold_1/<dataset>_test_fold_1.jsonl in it; give the "
            "checkout of EmoBox."
        )
    if not dataset:
        raise UserError(f"no data set is given; give one with dataset=NAME: {listed(names, 40)}.")
    if dataset not in names:
        raise UserError(f"{data}: there is no data set '{dataset}'; {nearest(dataset, names)}")
    return data / dataset


def _folds(home: Path) -> dict[str, dict[str, Path]]:
    """Find the parts of every fold: fold -> part -> file."""
    folds: dict[int, dict[str, Path]] = {}
    name = re.compile(rf"{re.escape(home.name)}_(train|valid|test)_fold_(\d{{1,3}})\.jsonl")
    for path in sorted(home.glob("fold_*/*.jsonl")):
        match = name.fullmatch(path.name)
        if match and path.parent.name == f"fold_{match[2]}":
            folds.setdefault(int(match[2]), {})[match[1]] = path
    return {str(number): folds[number] for number in sorted(folds)}


def _read(path: Path) -> Iterator[Utterance]:
    """Yield the utterances of a jsonl; raises `UserError` with the line that is none."""
    if not path.is_file():
        return
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            try:
                yield Utterance.model_validate_json(line)
            except ValidationError as error:
                raise UserError(
                    f"{path}:{number}: not an utterance of EmoBox ({describe(error)}); {RESTORE}."
                ) from error


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path}: it is larger than {LARGEST // 2**20} MiB; {RESTORE}.")
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: it is not UTF-8 text; {RESTORE}.") from error


def _row(utterance: Utterance, source: Path) -> dict[str, object]:
    path = utterance.wav or utterance.audio or ""
    if not stays_within(path):
        raise UserError(
            f"{source}: the audio of '{shorten(utterance.key)}' is '{shorten(path)}', not a path "
            f"within the checkout; {RESTORE}."
        )
    return {
        "utterance": utterance.key,
        "path": path,
        "start": utterance.start_time,
        "end": utterance.end_time,
        "emotion": utterance.emo or utterance.label,
    }


def _label_map(home: Path) -> tuple[dict[str, str | None], list[str]]:
    """Read emotion -> class, both in small letters, and the classes in order."""
    path = next((home / name for name in LABEL_MAPS if (home / name).is_file()), None)
    if path is None:
        raise UserError(f"{home / LABEL_MAPS[0]}: there is no such file; {RESTORE}.")
    try:
        pairs = json.loads(_text(path)).items()
        for emotion, name in pairs:
            if not isinstance(name, str) or not name.strip() or CONTROL.search(name):
                raise ValueError(f"the class of '{shorten(emotion)}' is not a name")
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a label map ({error}); {RESTORE}.") from error
    classes = {emotion.lower(): name.lower() for emotion, name in pairs}
    labels = {e: None if name in NO_CLASS else name for e, name in classes.items()}
    return labels, list(dict.fromkeys(name for name in labels.values() if name is not None))


def _with_path_columns(frame: pl.DataFrame, dataset: str) -> pl.DataFrame:
    """Add the columns that are read from the paths, as speaker, gender and language."""
    spec = _path_specs().get(dataset)
    if spec is None:
        return frame
    stems = frame[PATH].str.replace(r"\.[^./]*$", "")
    match = match_paths(spec, stems.unique(maintain_order=True).to_list())
    columns = fill_columns(spec, match)
    new = [n for n in columns.columns if n not in (*frame.columns, "corpus")]
    columns = columns.select(new).with_columns(match[PATH].alias("stem"))
    return frame.with_columns(stem=stems).join(columns, "stem", how="left").drop("stem")


def _shared_speakers(frame: pl.DataFrame) -> list[str]:
    """Return a note when test speakers of a fold speak in its other parts too."""
    if "speaker" not in frame.columns:
        return []
    shared = []
    for (fold,), test in frame.drop_nulls("fold").group_by("fold", maintain_order=True):
        others = frame.filter(pl.col("fold").ne_missing(str(fold)))["speaker"].drop_nulls()
        if test["speaker"].is_in(others.to_list()).any():
            shared.append(str(fold))
    verb = "shares" if len(shared) == 1 else "share"
    return [f"EmoBox's fold {listed(shared)} {verb} speakers of test with train"] if shared else []


@cache
def _path_specs() -> Mapping[str, FileSpec]:
    path = Path(__file__).with_suffix(".yaml")
    entries = parse_yaml(str(path), path.read_bytes(), text_only=True).value
    return {
        name: spec_of(entry["spec"]) if "spec" in entry else FileSpec.model_validate(entry)
        for name, entry in entries.items()
    }
