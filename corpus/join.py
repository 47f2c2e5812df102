"""Join corpora into one manifest.

1. The emotions of every corpus are mapped to classes.
2. Ids, speakers and sessions get the name of the corpus in front (`emovo/f1`), so those of two
   corpora are never taken for each other.
3. Paths start from the folder that all audio lies in, or are absolute where there is none.
4. Votes and attributes stay as they are unless `rescale` or `votes` asks for more.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from ser.corpus.cells import UNKNOWN
from ser.corpus.classes import emotions_of, map_emotions
from ser.corpus.columns import ATTRIBUTES, COLUMNS, FURTHER, HIGHEST, LOWEST, SYNTHETIC, VOTE
from ser.corpus.config import Others
from ser.corpus.errors import UserError, listed, nearest, plural
from ser.corpus.manifest import Manifest, corpus_name

PREFIXED = ("utterance", "speaker", "session")
Votes = Literal["counts", "shares"]
Splits = Literal["keep", "clear"]
Parts = list[tuple[str, Manifest]]  # the rows of each corpus, by its name


def join_manifests(
    manifests: Sequence[Manifest],
    names: Sequence[str | None] = (),
    *,
    mapping: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    others: Others = "error",
    splits: Splits = "keep",
    votes: Votes = "counts",
    rescale: Mapping[str, tuple[float, float]] | None = None,
    absolute: bool = False,
) -> Manifest:
    """Return the utterances of several corpora as one manifest.

    Args:
        manifests: two or more, each with its audio folder.
        names: the names of the corpora; None for those in the manifest's column `corpus`, or else
            the name of its file.
        mapping: emotion to class, `{"excited": "happy"}`; of one corpus `{"emovo:joy": "happy"}`.
        classes: the classes, in the order of the logits; by default the emotions that occur.
        others: `error`, `drop` or `keep-unlabelled` an utterance of any other emotion.
        splits: `keep` or `clear` the columns split and fold.
        votes: `counts` of raters, or `shares` of all votes for the utterance.
        rescale: the range, as (1, 5), that the attributes of a corpus have, to map to 1-7.
        absolute: write absolute paths, as a CSV does not record the audio folder.

    The notes of the result are what was done. Raises `UserError` for corpora with the same name,
    ids that clash, and mistakes in the options.

        >>> rows = {"utterance": ["1"], "path": ["1.wav"], "speaker": ["a"], "emotion": ["joy"]}
        >>> parts = [Manifest(pl.DataFrame(rows), source=f"{name}.csv") for name in ("de", "it")]
        >>> joined = join_manifests(parts, mapping={"joy": "happy"})
        >>> joined.utterances(), joined.classes
        (['de/1', 'it/1'], ('happy',))
    """
    for option, value, choices in (("splits", splits, Splits), ("votes", votes, Votes)):
        if value not in get_args(choices):
            raise UserError(f"{option} is '{value}'; use one of: {', '.join(get_args(choices))}.")
    if len(manifests) < 2:
        raise UserError(f"{plural(len(manifests), 'manifest')} to join; give two or more.")
    _require_names(mapping or {}, classes)
    parts = _by_corpus(manifests, names)
    ranges, corpora = dict(rescale or {}), [corpus for corpus, _ in parts]
    for name in ranges:
        if name not in corpora:
            raise UserError(f"rescale: there is no corpus '{name}'; {nearest(name, corpora)}")
    folder = None if absolute else _common_folder(manifests)
    notes: list[str] = []
    frames = []
    for (corpus, part), renamed in zip(parts, _mappings(parts, mapping or {}), strict=True):
        mapped = map_emotions(part, renamed, classes, others)
        notes += [f"{corpus}: {note}" for note in mapped.notes]
        frame = mapped.frame.with_columns(_prefixed(name, corpus) for name in PREFIXED)
        frame = frame.with_columns(_paths(mapped, folder))
        frame = _shares(frame) if votes == "shares" else frame
        frames.append(_rescaled(frame, corpus, *ranges[corpus]) if corpus in ranges else frame)
    _require_distinct(parts, frames)
    frame = _concatenated(frames)
    if frame.is_empty():
        raise UserError(
            f"no utterance is left of {listed(corpora)}; give classes that "
            "they have, or map their emotions to these."
        )
    notes += _scales(frame, list(ranges))
    if splits == "clear":
        frame = frame.with_columns(split=pl.lit(""), fold=pl.lit(None, pl.String))
    elif (frame["split"] != "").any():
        unsplit = [corpus for corpus, part in parts if (part.frame["split"] == "").all()]
        notes += [f"{corpus}: no utterance has a split" for corpus in unsplit]
    source = " + ".join(manifest.source for manifest in manifests)
    return Manifest(frame, classes, source, folder, notes)


def _require_names(mapping: Mapping[str, str], classes: Sequence[str] | None) -> None:
    """Raise `UserError` for a class without a name, named twice, or spelt like an empty cell."""
    if classes is not None and not classes:
        raise UserError("classes: none is given; name one or more.")
    for name in (*mapping.values(), *(classes or ())):
        if name.strip().lower() in UNKNOWN:
            raise UserError(f"the class '{name}' is spelt like an empty cell; give another name.")
    twice = [name for name in classes or () if list(classes or ()).count(name) > 1]
    if twice:
        raise UserError(f"classes: '{twice[0]}' is named twice; name it once.")


def class_by_corpus(manifest: Manifest) -> pl.DataFrame:
    """Count utterances: a row for each class and "(none)", a column for each corpus and in all."""
    corpus = manifest.frame["corpus"].fill_null("")
    columns = {}
    for name in corpus.unique(maintain_order=True):
        heading = f"corpus {name}" if name in ("all", "class") else name
        columns[heading] = manifest.class_counts(corpus == name)
    columns["all"] = manifest.class_counts()
    counts = {heading: [*column, sum(column)] for heading, column in columns.items()}
    return pl.DataFrame({"class": [*manifest.classes, "(none)", "clips"], **counts})


def _by_corpus(manifests: Sequence[Manifest], names: Sequence[str | None]) -> Parts:
    """Return (corpus, its rows) for every corpus of every manifest, with the audio folder set.

    A corpus may be spread over manifests that name it in their column; any other two are distinct.
    """
    parts: Parts = []
    sources: dict[str, str] = {}
    given = [*names, *[None] * (len(manifests) - len(names))]
    for manifest, name in zip(manifests, given, strict=True):
        column = manifest.frame["corpus"]
        filled = name is not None or column.has_nulls()
        other = name or corpus_name(Path(manifest.source))
        frame = manifest.frame.with_columns(pl.lit(other).alias("corpus") if name else column)
        frame = frame.with_columns(pl.col("corpus").fill_null(other))
        for corpus in frame["corpus"].unique(maintain_order=True):
            if corpus in sources and filled:
                raise UserError(
                    f"{sources[corpus]} and {manifest.source} are both called '{corpus}'; give one "
                    f"of them another name, as other={manifest.source}."
                )
            sources[corpus] = manifest.source
            rows = frame.filter(pl.col("corpus") == corpus)
            audio = manifest.audio_folder()
            parts.append((corpus, Manifest(rows, None, manifest.source, audio)))
    return parts


def _mappings(parts: Parts, mapping: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the mapping of every part; an entry of its corpus overrides one of all."""
    general: list[dict[str, str]] = [{} for _ in parts]
    special: list[dict[str, str]] = [{} for _ in parts]
    emotions = [emotions_of(part) for _, part in parts]
    for key, target in mapping.items():
        corpus, _, emotion = key.partition(":")
        own = emotion and corpus in [name for name, _ in parts]
        emotion = emotion if own else key
        of_corpus = [i for i, (name, _) in enumerate(parts) if not own or name == corpus]
        at = [i for i in of_corpus if emotion in emotions[i]]
        if not at:
            occurring = sorted({e for names in emotions for e in names})
            where = f" of {corpus}" if own else ""
            remedy = nearest(emotion, occurring)
            raise UserError(f"map: no utterance{where} has the emotion '{emotion}'; {remedy}")
        for i in at:
            (special if own else general)[i][emotion] = target
    return [a | b for a, b in zip(general, special, strict=True)]


def _prefixed(name: str, corpus: str) -> pl.Expr:
    """Return a column with the corpus in front, where it is not there already."""
    value, front = pl.col(name), f"{corpus}/"
    return pl.when(value.str.starts_with(front)).then(value).otherwise(front + value).alias(name)


def _common_folder(manifests: Sequence[Manifest]) -> Path | None:
    """Return the folder that all audio folders lie in, None where that is the root."""
    folders = [manifest.audio_folder().resolve() for manifest in manifests]
    try:
        common = Path(os.path.commonpath(folders))
    except ValueError:  # on different drives
        return None
    return common if common != Path(common.anchor) else None


def _paths(manifest: Manifest, folder: Path | None) -> pl.Series:
    """Return the paths of a manifest from `folder`, or absolute where that is None."""
    audio = manifest.audio_folder().resolve()
    whole = [str(audio / path) for path in manifest.frame["path"]]
    paths = whole if folder is None else [os.path.relpath(path, folder) for path in whole]
    return pl.Series("path", paths)


def _shares(frame: pl.DataFrame) -> pl.DataFrame:
    """Divide the votes for every utterance by their sum."""
    first = [name for name in frame.columns if name.startswith(VOTE)]
    voted = [name for name in frame.columns if name.startswith((VOTE, FURTHER))]
    if not first:
        return frame
    total = pl.sum_horizontal(first).cast(pl.Float64)
    shares = (pl.when(total > 0).then(pl.col(name) / total).alias(name) for name in voted)
    return frame.with_columns(shares)


def _rescaled(frame: pl.DataFrame, corpus: str, low: float, high: float) -> pl.DataFrame:
    """Map the attributes of a corpus from `low` to `high` to the range of a manifest."""
    if not (low < high and math.isfinite(high - low)):
        raise UserError(
            f"rescale: {corpus}: {low:g} to {high:g} is not a range; give two finite numbers, as "
            "1:5."
        )
    for name in ATTRIBUTES:
        outside = frame.filter(~pl.col(name).is_between(low, high))
        if outside.height:
            raise UserError(
                f"rescale: {name} of '{outside['utterance'][0]}' is {outside[name][0]:g}, not "
                f"between {low:g} and {high:g}."
            )
    scale = (HIGHEST - LOWEST) / (high - low)
    return frame.with_columns((pl.col(name) - low) * scale + LOWEST for name in ATTRIBUTES)


def _require_distinct(parts: Parts, frames: Sequence[pl.DataFrame]) -> None:
    sources: dict[str, str] = {}
    for (_, part), frame in zip(parts, frames, strict=True):
        for utterance in frame["utterance"]:
            if utterance in sources:
                raise UserError(
                    f"utterance '{utterance}' is in {sources[utterance]} and in {part.source}; "
                    "leave one of the two out, or give one corpus another name."
                )
            sources[utterance] = part.source


def _concatenated(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put frames below each other; a further column of several types becomes text."""
    further = {name for frame in frames for name in frame.columns} - set(COLUMNS)
    types = {name: {f.schema[name] for f in frames if name in f.columns} for name in further}
    mixed = [
        name
        for name, kinds in types.items()
        if len(kinds) > 1 and not all(kind.is_numeric() for kind in kinds)
    ]
    same = [
        frame.with_columns(pl.col(name).cast(pl.String) for name in mixed if name in frame.columns)
        for frame in frames
    ]
    joined = pl.concat(same, how="diagonal_relaxed")
    if SYNTHETIC in joined.columns:
        joined = joined.with_columns(pl.col(SYNTHETIC).fill_null(False))
    return joined


def _scales(frame: pl.DataFrame, rescaled: Sequence[str]) -> list[str]:
    """Return a note on the range of every attribute that several corpora have."""
    notes = []
    for name in ATTRIBUTES:
        rated = frame.filter(pl.col(name).is_not_null())
        ranges = rated.group_by("corpus", maintain_order=True).agg(
            pl.col(name).min().alias("low"), pl.col(name).max().alias("high")
        )
        if ranges.height > 1:
            shown = ", ".join(f"{c} {low:g} to {high:g}" for c, low, high in ranges.iter_rows())
            done = f"after rescaling {', '.join(rescaled)}" if rescaled else "not rescaled"
            notes.append(f"{name}, {done}: {shown}")
    return notes
