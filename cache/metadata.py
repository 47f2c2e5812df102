"""`feature.json`: what a feature's folder was made from, and how two specs differ."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser.cache.files import fingerprint, readable
from ser.cache.json_file import read_object
from ser.corpus.errors import CONTROL, UserError

FORMAT = "ser-features/1"
IDENTITY = ("format", "content", "feature", "fingerprint", "spec")
METADATA_REMEDY = "delete this file and run `ser extract --all`, which keeps the frames beside it"


def is_feature_name(name: str) -> bool:
    """Return whether a feature may have this name, which is that of a folder."""
    return Path(name).name == name and name not in ("", "..") and not CONTROL.search(name)


@dataclass(frozen=True)
class Metadata:
    """A `feature.json`; `values` is all of it, with what `FeatureFolder.create` was given."""

    content: str
    feature: str
    fingerprint: str
    spec: dict[str, object]
    values: dict[str, Any]


def read_metadata(path: Path) -> Metadata:
    """Read the `feature.json` of a folder; raises `UserError` when it is damaged or not ours.

    Those of older versions have no checksum; the spec is compared with its fingerprint in any case.
    """
    file = path / "feature.json"
    with readable(file, METADATA_REMEDY):
        values = read_object(file, METADATA_REMEDY)
    if values.get("format") != FORMAT:
        raise UserError(
            f"{file}: the format is {values.get('format')!r}, not {FORMAT!r}; use the version "
            f"that wrote it, or {METADATA_REMEDY}."
        )
    content, feature, spec = (values.get(key) for key in ("content", "feature", "spec"))
    if (
        isinstance(content, str)
        and isinstance(feature, str)
        and isinstance(spec, dict)
        and is_feature_name(feature)
        and (digest := fingerprint(spec)) == values.get("fingerprint")
    ):
        return Metadata(content, feature, digest, spec, values)
    raise UserError(f"{file}: it is damaged; {METADATA_REMEDY}.")


def fitting(folders: Iterable[Path], required: Mapping[str, object]) -> list[Path]:
    """Return the folders whose spec has what is required."""
    return [path for path in folders if not _wrong_keys(path, required)]


def the_fitting(
    folders: Iterable[Path], place: str, name: str, required: Mapping[str, object] | None
) -> Path:
    """Return the one folder of a feature whose spec has what is required, if anything is.

    Raises `UserError` that begins with `place` when nothing, something else, or more fits.
    """
    wrong = {path: _wrong_keys(path, required) for path in folders}
    if not wrong:
        raise UserError(
            f"{place}: feature '{name}' is not in the cache; run `ser extract {name}` first."
        )
    agreeing = [path for path, keys in wrong.items() if not keys]
    if len(agreeing) > 1:
        raise UserError(
            f"{place}: {len(agreeing)} folders fit feature '{name}' and differ in their weights; "
            "delete the one that you do not need."
        )
    if agreeing:
        return agreeing[0]
    closest = min(wrong, key=lambda path: len(wrong[path]))
    spec, key = read_metadata(closest).spec, wrong[closest][0]
    raise UserError(
        f"{closest}: it was extracted with {_in_words(spec, key)}, but pipeline.yaml asks for "
        f"{_in_words(required or {}, key)}; run `ser extract {name}`."
    )


def _wrong_keys(path: Path, required: Mapping[str, object] | None) -> list[str]:
    """Return the keys in which the spec of a folder differs from what is required, if anything is.

    `weights` counts only where it is required.
    """
    spec = read_metadata(path).spec
    if required is None:
        return []
    keys = sorted({*spec, *required} - ({"weights"} - set(required)))
    return [key for key in keys if spec.get(key) != required.get(key)]


def _in_words(spec: Mapping[str, object], key: str) -> str:
    """Return one key of a spec with its value, for messages."""
    return f"{key}={spec[key]!r}" if key in spec else f"the default {key}"
