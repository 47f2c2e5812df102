"""Importers of corpora that are labelled by file name: each is a YAML in `specs/`."""

from pathlib import Path
from textwrap import fill

from ser.corpus.importers.files import import_files
from ser.corpus.importers.registry import SPECS, Importer, importer
from ser.corpus.importers.spec import FileSpec, read_spec
from ser.corpus.manifest import Manifest

WIDTH = 96  # characters of a line of documentation


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
