"""`feature.json`: what a feature's folder was made from, and how two specs differ."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ser.cache.files import fingerprint, readable
from ser.cache.json_file import read_object
from ser.corpus.errors import UserError

FORMAT = "ser-features/1"
IDENTITY = ("format", "content", "feature", "fingerprint", "spec")
METADATA_REMEDY = "delete this file and run `ser extract`, which keeps the frames beside it"


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the `feature.json` of a folder; raises `UserError` when it is damaged or not ours.

    Those of older versions have no checksum; the spec is compared with its fingerprint in any case.
    """
    file = path / "feature.json"
    with readable(file, METADATA_REMEDY):
        metadata = read_object(file, METADATA_REMEDY)
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{file}: the format is {metadata.get('format')!r}, not {FORMAT!r}; use the version "
            f"that wrote it, or {METADATA_REMEDY}."
        )
    texts = [metadata.get(key) for key in ("content", "feature", "fingerprint")]
    spec = metadata.get("spec")
    if (
        not all(isinstance(text, str) for text in texts)
        or not isinstance(spec, dict)
        or fingerprint(spec) != metadata["fingerprint"]
    ):
        raise UserError(f"{file}: it is damaged; {METADATA_REMEDY}.")
    return metadata


def read_specs(folders: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """Return the spec of each folder."""
    return {path: read_metadata(path)["spec"] for path in folders}


def differences(spec: Mapping[str, object], required: Mapping[str, object]) -> list[str]:
    """Return the keys in which two specs differ; `weights` counts only where it is required."""
    keys = sorted({*spec, *required} - ({"weights"} - set(required)))
    return [key for key in keys if spec.get(key) != required.get(key)]


def in_words(spec: Mapping[str, object], key: str) -> str:
    """Return one key of a spec with its value, for messages."""
    return f"{key}={spec[key]!r}" if key in spec else f"the default {key}"
