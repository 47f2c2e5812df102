"""A YAML that describes how a corpus names its files: a regular expression, columns and classes.

    pattern: (?P<emotion>dis|gio)-(?P<speaker>(?P<sex>[fm])\\d)-(?P<sentence>b\\d)
    classes: [happy, disgust]
    columns:
      speaker: emovo-{speaker}                        # text, groups in braces
      gender: {group: sex, values: {f: female, m: male}}
      emotion: {values: {dis: disgust, gio: happy}}   # the group of the column's own name
      language: it

- The pattern is matched against the path from the corpus folder, without the suffix. It must match
  up to the end, from the beginning of the name of a file or a folder.
- Empty text, and the words that mean unknown in any table (none, null, NA), leave a cell empty.
- A group that is called like a column of the manifest fills it. A value that `values` does not
  name is null.
- `utterance` is the file's name without suffix unless the columns say otherwise.

Whoever wrote the YAML is not trusted: it is bounded, and the pattern is matched by an engine that
is linear in the length of the path (Rust's, of polars), with a limit on the time of the whole.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from ser.corpus.bounded_yaml import Yaml, parse_yaml, read_yaml
from ser.corpus.cells import UNKNOWN, counted, without_unknown
from ser.corpus.columns import COLUMNS
from ser.corpus.config import MOST_CLASSES, Name, Section, correction
from ser.corpus.errors import UserError, listed, nearest
from ser.corpus.manifest import Manifest

LONGEST_PATTERN = 1000  # characters
SECONDS = 20.0  # to match the paths of a corpus
MOST_COLUMNS = 100
MOST_VALUES = 2000  # of one column
GROUP = re.compile(r"\{(\w+)\}")
WHOLE, PATH = "whole_path", "path"  # columns of a match beside its groups


class Lookup(Section):
    """The values of a column by those of a group; by default the group of the column's name."""

    group: Name | None = None
    values: dict[str, str] = Field(min_length=1, max_length=MOST_VALUES)


def _kind(rule: object) -> str:
    return "lookup" if isinstance(rule, Mapping | Lookup) else "text"


Rule = Annotated[
    Annotated[str, Tag("text")] | Annotated[Lookup, Tag("lookup")], Discriminator(_kind)
]


class FileSpec(Section):
    """The contents of the YAML; the texts make the documentation of a corpus that is built in."""

    pattern: str = Field(min_length=1, max_length=LONGEST_PATTERN)
    example: str = ""  # a path that matches
    classes: tuple[Name, ...] = Field(default=(), max_length=MOST_CLASSES)
    columns: dict[Name, Rule] = Field(default={}, max_length=MOST_COLUMNS)
    summary: str = ""
    description: str = ""
    files: str = ""
    split: str = ""
    licence: str = ""
    citation: str = ""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        if PATH in _groups(pattern):
            raise ValueError(
                "a group is called 'path', which is that of the file; rename the group"
            )
        return pattern

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for name, count in Counter(classes).items() if count > 1]
        if twice:
            raise ValueError(f"the class '{twice[0]}' is named twice; name it once")
        return classes

    @field_validator("columns")
    @classmethod
    def _manifest_columns(cls, columns: Mapping[str, str | Lookup]) -> Mapping[str, str | Lookup]:
        if PATH in columns:
            raise ValueError("the path is that of the file; remove the column")
        for name in columns:
            if name not in COLUMNS and name.lower() in COLUMNS:
                raise ValueError(f"a manifest has no column '{name}'; write it as {name.lower()}")
        return columns

    @model_validator(mode="after")
    def _groups_exist(self) -> "FileSpec":
        groups = self.groups()
        for column, rule in self.columns.items():
            used = GROUP.findall(rule) if isinstance(rule, str) else [rule.group or column]
            for group in used:
                if group not in groups:
                    raise ValueError(
                        f"the column '{column}' uses the group '{group}', which the pattern does "
                        f"not have (its groups: {listed(groups) or 'none'}); name the group in the "
                        "pattern as (?P<name>…)"
                    )
        return self

    def groups(self) -> list[str]:
        """Return the names of the pattern's groups."""
        return _groups(self.pattern)

    def rules(self) -> dict[str, str | Lookup]:
        """Return the rule of every column but the path, in the order of a manifest."""
        own: dict[str, str | Lookup] = {n: f"{{{n}}}" for n in self.groups() if n in COLUMNS}
        rules = own | self.columns
        order = [*(n for n in COLUMNS if n in rules), *(n for n in rules if n not in COLUMNS)]
        return {name: rules[name] for name in order if name != PATH}


def _groups(pattern: str) -> list[str]:
    """Return the names of a pattern's groups; raises `ValueError` for a wrong pattern."""
    try:
        pl.Series([""]).str.extract_groups(f"(){pattern}")  # so that it cannot leave a group
        match = pl.Series(WHOLE, [""]).str.extract_groups(_anchored(pattern))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).strip().splitlines()[-1]
        reason = reason.removeprefix("error: ").removeprefix("regex error: ").rstrip(".")
        raise ValueError(f"{reason}; correct the regular expression") from error
    return [name for name in match.struct.fields if not name.isdigit() and name != WHOLE]


def read_spec(path: Path) -> FileSpec:
    """Read and check a YAML; raises `UserError` that names the file, the line and the key."""
    document = parse_yaml(str(path), read_yaml(path), text_only=True)
    if not isinstance(document.value, dict):
        raise UserError(f"{path}: it has no keys; write `pattern: …` and `columns: …`.")
    try:
        return FileSpec.model_validate(document.value)
    except ValidationError as error:
        raise UserError(_sentence(path, document, error)) from error


def match_paths(spec: FileSpec, paths: Sequence[str]) -> pl.DataFrame:
    """Match paths without suffix: `path` and a text column for each group, of those that match.

    Raises `UserError` when it takes too long.
    """
    pattern, frames, start = _anchored(spec.pattern), [], 0
    count, stop = 1, time.monotonic() + SECONDS
    while start < len(paths):
        chunk = pl.Series(PATH, paths[start : start + count], dtype=pl.String)
        began = time.monotonic()
        groups = chunk.str.extract_groups(pattern).struct.unnest()
        frames.append(groups.with_columns(chunk).filter(pl.col(WHOLE).is_not_null()))
        start += len(chunk)
        if time.monotonic() > stop and start < len(paths):
            raise UserError(
                f"the pattern took over {SECONDS:g} s for {start} of {len(paths)} paths; write it "
                "with fewer repetitions within repetitions."
            )
        count = min(2 * count, 10_000) if time.monotonic() - began < 0.5 else count
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys([*spec.groups(), PATH], pl.String))
    return pl.concat(frames).select(*spec.groups(), PATH)


def fill_columns(spec: FileSpec, match: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of a match (`match_paths`) as the YAML has them; `utterance` and all."""
    rules = {"utterance": None, **spec.rules()}
    stem = pl.col(PATH).str.replace(r"^.*/", "")
    return match.select(
        (stem if rule is None else _column(name, rule)).alias(name) for name, rule in rules.items()
    )


def manifest_of_spec(
    spec: FileSpec, match: pl.DataFrame, files: Sequence[str], folder: Path, source: str
) -> Manifest:
    """Make the manifest of matched files; `files` are their paths with suffix, the first is taken.

    Copies of a clip, which have the same id and groups, count once. Raises `UserError` for clips
    that share an id and differ, and for a value that is not one of the classes.
    """
    frame = fill_columns(spec, match)
    frame.insert_column(1, pl.Series(PATH, files, dtype=pl.String))
    told_apart = [n for n in frame.columns if n != PATH]
    twice = _different_files(frame.filter(pl.struct(told_apart).is_duplicated()), folder)
    frame = frame.unique(told_apart, keep="first", maintain_order=True)
    if twice.is_empty():
        twice = frame.filter(pl.col("utterance").is_duplicated()).sort("utterance")
    if twice.height:
        raise UserError(
            f"{source}: '{twice[PATH][0]}' and '{twice[PATH][1]}' are both called "
            f"'{twice['utterance'][0]}'; make ids of groups under `columns`, as "
            "utterance: '{speaker}-{number}'."
        )
    if "emotion" in frame.columns:  # an empty text is no class
        frame = frame.with_columns(without_unknown(frame["emotion"], keep=spec.classes))
    present = set(frame["emotion"].drop_nulls()) if "emotion" in frame.columns else set()
    rule = spec.columns.get("emotion")
    named = rule.values.values() if isinstance(rule, Lookup) else sorted(present)
    named = [name for name in named if name.strip().lower() not in UNKNOWN]
    classes = spec.classes or tuple(dict.fromkeys(named))
    odd = sorted(present - set(classes))
    if odd:
        raise UserError(
            f"{source}: the emotion '{odd[0]}' is not one of the classes ({listed(classes)}); add "
            "it to `classes` or to the values of the column emotion."
        )
    frame = frame.sort("utterance")
    occurring = [name for name in classes if name in present]
    return Manifest(frame, occurring, folder, notes=list(_notes(spec, match)))


def _different_files(clips: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the clips of an id that cannot be copies: of one format, but of different size."""
    sizes = [(folder / path).stat().st_size for path in clips[PATH]]
    clips = clips.with_columns(
        pl.Series("size in bytes", sizes, dtype=pl.Int64),
        pl.col(PATH).str.extract(r"(\.[^./]*)$").str.to_lowercase().alias("format"),
    )
    different = pl.col("size in bytes").n_unique().over("utterance", "format") > 1
    return clips.filter(different).sort("utterance")


def _anchored(pattern: str) -> str:
    return rf"^(?:.*/)?(?P<{WHOLE}>{pattern})$"


def _column(name: str, rule: str | Lookup) -> pl.Expr:
    """Return the text of a column: null where a group that it needs matched nothing."""
    if isinstance(rule, Lookup):
        group = pl.col(rule.group or name)
        return group.replace_strict(rule.values, default=None, return_dtype=pl.String)
    parts = GROUP.split(rule)  # text, group, text, …
    return pl.concat_str(
        [pl.col(part) if i % 2 else pl.lit(part) for i, part in enumerate(parts) if part or i % 2]
        or [pl.lit("")]
    )


def _notes(spec: FileSpec, match: pl.DataFrame) -> Iterator[str]:
    """Yield which matched values a column's `values` do not name."""
    for name, rule in spec.columns.items():
        if isinstance(rule, Lookup):
            cells = match[rule.group or name].drop_nulls()
            unknown = cells.filter(~cells.is_in(list(rule.values)))
            if len(unknown):
                yield f"no {name} for {counted(unknown, 'file')}, which its values do not name"


def _sentence(path: Path, document: Yaml, error: ValidationError) -> str:
    """Return the first error of a YAML as a sentence with the line of its key."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    keys = [key for key in first["loc"] if isinstance(key, int) or key not in ("text", "lookup")]
    place: tuple[str | int, ...] = ()
    for key in keys:  # down to the deepest that the document has
        place = (*place, key) if (*place, key) in document.lines else place
    line = f":{document.lines[place]}" if place else ""
    if keys and keys[-1] == "[key]":  # what pydantic calls a key that is wrong itself
        keys[-1] = "(a key)"
    key = ".".join(map(str, keys))
    if first["type"] == "extra_forbidden":
        names = Lookup.model_fields if len(keys) > 1 else FileSpec.model_fields
        return f"{path}{line}: there is no key '{keys[-1]}'; {nearest(str(keys[-1]), names)}"
    return f"{path}{line}: {key + ': ' if key else ''}{correction(first)}"
