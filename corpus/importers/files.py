"""Any corpus with speaker and emotion in its file names, by a regular expression in a YAML.

Each YAML in `specs/` is an importer of its own.
"""

import os
from pathlib import Path
from textwrap import fill

from ser.corpus.config import LONGEST_PATH
from ser.corpus.errors import UserError, plural
from ser.corpus.importers.registry import SPECS, Importer, audio_files, importer
from ser.corpus.importers.spec import FileSpec, manifest_of_spec, match_paths, read_spec
from ser.corpus.manifest import Manifest

WIDTH = 96  # characters of a line of documentation


@importer("files")
def files(folder: Path, *, spec: str | Path = "") -> Manifest:
    """Import a corpus that has speaker and emotion in its file names.

    Files: audio in any subfolder of `folder`, in any format; of copies of a clip in several
    formats, wav or flac is taken.
    Options: `spec`: a YAML with the regular expression, what its groups mean, and the classes; the
    ones in the folder `corpus/importers/specs` of this package are examples, and docs/corpus.md
    explains the keys.
    Split: the column `split` of the YAML; none without it.

    Licence and citation are those of your corpus.
    """
    if not spec:
        raise UserError("no YAML is given; give one with spec=FILE.")
    return import_files(read_spec(Path(spec)), folder, str(spec))


def import_files(spec: FileSpec, folder: Path, source: str) -> Manifest:
    """Import the files of a folder that a YAML describes; `source` names the YAML in messages."""
    paths = [path.relative_to(folder) for path in audio_files(folder)]
    names = [path.as_posix() for path in paths if _is_text(path)]
    stems: dict[str, str] = {}
    for name in names:  # the first of a clip in several formats
        stems.setdefault(name.removesuffix(Path(name).suffix), name)
    match = match_paths(spec, list(stems))
    if match.is_empty():
        like = f"; a path that would match is {spec.example}" if spec.example else ""
        raise UserError(
            f"{folder}: none of its {plural(len(names), 'audio file')} matches the pattern of "
            f"{source}{like}."
        )
    matched_files = [stems[stem] for stem in match["path"]]
    manifest = manifest_of_spec(spec, match, matched_files, folder, source)
    left = len(stems) - len(match)
    if left:
        matched = set(match["path"])
        first = next(name for stem, name in stems.items() if stem not in matched)
        note = f"files that do not match the pattern: {left} of {len(stems)}, as {first}"
        manifest.notes = (*manifest.notes, note)
    return manifest


def _is_text(path: Path) -> bool:
    """Tell whether a path is UTF-8, as a manifest needs, and not longer than a path can be."""
    try:
        return len(os.fspath(path).encode()) <= LONGEST_PATH
    except UnicodeEncodeError:
        return False


def spec_of(name: str) -> FileSpec:
    """Read the YAML of a corpus that is built in."""
    return read_spec(SPECS / f"{name}.yaml")


def documentation(spec: FileSpec) -> str:
    """Return the docstring of an importer: the corpus, its files, split, licence and citation."""
    parts = (
        spec.description,
        f"Files: {spec.files}, named as {spec.example}.",
        f"Split: {spec.split or 'none; `ser corpus split` makes one'}.",
        f"Licence: {spec.licence}. Cite: {spec.citation}.",
    )
    return "\n\n".join([spec.summary, *(fill(part, WIDTH) for part in parts)])


def _importer_of(name: str) -> Importer:
    spec = spec_of(name)

    def import_shipped(folder: Path) -> Manifest:
        return import_files(spec, folder, name)

    import_shipped.__doc__ = documentation(spec)
    import_shipped.__qualname__ = import_shipped.__name__ = name.replace("-", "_")
    return import_shipped


for _path in sorted(SPECS.glob("*.yaml")):
    importer(_path.stem)(_importer_of(_path.stem))
