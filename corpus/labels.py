"""Likely mistakes in the labels of a corpus, reported at import and by `check`; reads no audio."""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import polars as pl

from ser.corpus.cells import SPLITS
from ser.corpus.columns import ATTRIBUTES, VOTE
from ser.corpus.errors import plural
from ser.corpus.manifest import Manifest

Problem = tuple[str, str, str, str]  # utterance, problem, detail, severity


def summary(manifest: Manifest) -> str:
    """Describe a manifest in a line: its utterances, those with a class or a split, its classes."""
    frame = manifest.frame
    labelled = len(frame) - frame["emotion"].null_count()
    in_split = int((frame["split"] != "").sum())
    parts = [f"{n} {s}" for s in SPLITS if s and (n := int((frame["split"] == s).sum()))]
    return (
        f"{plural(len(frame), 'utterance')}, {labelled} with a class, {in_split} with a split"
        + (f" ({', '.join(parts)})" if parts else "")
        + f"; classes: {', '.join(manifest.classes) or 'none'}"
    )


def label_problems(manifest: Manifest, path: str | Path | None = None) -> Iterator[Problem]:
    """Yield the labels that are probably a mistake.

    `path` is where the manifest is written, by default its source.
    """
    frame, source = manifest.frame, path or manifest.source
    if frame.is_empty():
        return
    count = plural(len(frame), "row")
    if frame["emotion"].null_count() == len(frame):
        attributes = frame.select(ATTRIBUTES).null_count().sum_horizontal()
        if attributes[0] < 3 * len(frame):
            detail = f"none of {count} has a class, only attributes"
            yield "", "nothing labelled", detail, "warning"
        else:
            detail = f"none of {count} has a class; run `ser corpus import` again with "
            yield "", "nothing labelled", f"{detail}`--option emotion=COLUMN`", "error"
    if (frame["split"] == "").all() and frame["fold"].is_null().all():
        detail = (
            f"none of {count} is in train, dev or test; run `ser corpus split {quote(str(source))}`"
        )
        yield "", "nothing split", detail, "error"
    classes = {name.casefold(): name for name in manifest.classes}
    for column in frame.columns:
        label = column.removeprefix(VOTE)
        name = classes.get(label.casefold(), label)
        if label not in {column, name} and VOTE + name not in frame.columns:
            detail = f"'{column}' counts as other, not as '{name}'"
            yield "", "votes that differ from a class only in case", detail, "warning"
    for name, noun in (("emotion", "classes"), ("speaker", "speakers")):
        for words in _equal_but_for_case(frame[name]):
            listed = " and ".join(f"'{word}'" for word in words)
            yield "", f"{noun} that differ only in case", listed, "warning"


def _equal_but_for_case(column: pl.Series) -> list[list[str]]:
    words = column.drop_nulls().unique().sort().to_list()
    groups: dict[str, list[str]] = {}
    for word in words:
        groups.setdefault(" ".join(word.casefold().split()), []).append(word)
    return [group for group in groups.values() if len(group) > 1]
