"""A feature on the Hugging Face hub: its folder as it is, in a repository of data sets.

    feature.json, data.zarr/…     as in the cache; index.parquet is made again

The names of the shards lose the name of the machine that wrote them. What is pulled is checked
before any of it is in the cache: every file by ser.json, then the whole folder as by
`ser cache verify`, in a temporary folder; then its shards are merged into the cache.
"""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ser.cache.features import FeatureCache
from ser.cache.foreign_shard import has_other_layout
from ser.cache.hub import HubRecord, HubRepo
from ser.cache.metadata import read_metadata
from ser.cache.shard import COLUMNS, is_foreign
from ser.cache.small_arrays import small_metadata
from ser.cache.upkeep import merge
from ser.corpus.errors import UserError
from ser.corpus.progress import steps

FEATURE_JSON = "feature.json"
SMALL_ARRAYS = (*COLUMNS, "utterance")
FILE = re.compile(rf"{FEATURE_JSON}|data\.zarr/(?:zarr\.json|hub-0-\w+/[\w./-]+)", re.ASCII)


@dataclass(frozen=True)
class Pulled:
    """A feature that was pulled: its name, its fingerprint, and what the cache had not."""

    feature: str
    fingerprint: str
    utterances: int
    new_shards: int


def push_feature(cache: FeatureCache, repo: HubRepo, card: str, private: bool = False) -> str:
    """Push a feature whose checksums are right; return the commit.

    Raises `UserError` for damage, for a cache in object storage, and as `HubRepo.push`.
    """
    if cache.remote:
        raise UserError(
            f"{cache.location}: it is in object storage; copy it to this machine with `ser cache "
            "merge` first."
        )
    damages = cache.verify()
    if damages:
        raise UserError(f"{damages[0].reason}; {cache.remedy}, and push again.")
    if foreign := _foreign_shard(cache):
        raise UserError(
            f"{foreign}: another program has written it in other chunks; export the feature and "
            "import it again first."
        )
    return repo.push(cache.name, card, _files(cache), private)


def _foreign_shard(cache: FeatureCache) -> Path | None:
    """Return a shard that only zarr-python could read: no codec of a downloaded file is run."""
    for name in sorted(cache.shards()):
        path = cache.path / cache.store / name
        small = (has_other_layout(path / array, small_metadata) for array in SMALL_ARRAYS)
        if is_foreign(path) or any(small):
            return path
    return None


def _files(cache: FeatureCache) -> dict[str, Path]:
    """Return the files by their path in the repository; a shard's name is host-process-random."""
    files = {}
    for path in sorted((cache.path / cache.store).rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            parts = list(path.relative_to(cache.path).parts)
            if len(parts) > 2:
                parts[1] = f"hub-0-{parts[1].rpartition('-')[2]}"
            files["/".join(parts)] = path
    return files | {FEATURE_JSON: cache.path / FEATURE_JSON}


def pull_feature(repo: HubRepo, root: str | Path) -> Pulled:
    """Add a feature of the hub to a cache: a folder or a URL.

    Raises `UserError` for what cannot be downloaded, or is damaged; the cache is as before then.
    """
    record, repo = repo.read()
    wrong = next((place for place in record.files if not FILE.fullmatch(place)), None)
    if wrong is not None or FEATURE_JSON not in record.files:
        problem = f"it has {wrong}" if wrong else f"it lacks {FEATURE_JSON}"
        raise UserError(f"{repo}: {problem}, so it is not a feature; {HubRecord.remedy}.")
    with tempfile.TemporaryDirectory(prefix="ser-pull-") as temporary:
        try:
            theirs = _assembled(repo, record, Path(temporary))
            if foreign := _foreign_shard(theirs):
                raise UserError(f"{foreign}: another program has written it")
            if damages := theirs.verify():
                raise UserError(damages[0].reason)
        except UserError as error:
            if temporary not in str(error):
                raise
            problem = str(error).replace(f"{temporary}/", "").partition(";")[0].rstrip(".")
            raise UserError(f"{repo}: {problem}; {record.remedy}.") from error
        copied = merge(root, temporary)
        utterances = theirs.index(ordered=False).height
    return Pulled(record.name, theirs.fingerprint, utterances, sum(copied.values()))


def _assembled(repo: HubRepo, record: HubRecord, root: Path) -> FeatureCache:
    """Download the files, and return the feature's folder in a cache of its own, made of links."""
    metadata = repo.fetch(FEATURE_JSON, record.files[FEATURE_JSON])
    (root / "metadata").mkdir()
    shutil.copyfile(metadata, root / "metadata" / FEATURE_JSON)
    stated = read_metadata(root / "metadata")
    if stated.feature != record.name:
        raise UserError(f"{repo}: feature.json has another name than ser.json; {record.remedy}.")
    folder = root / record.name / stated.fingerprint
    folder.parent.mkdir()
    (root / "metadata").rename(folder)
    places = [place for place in record.files if place != FEATURE_JSON]
    for place in steps(places, record.name, len(places), unit="file", leave=False):
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(repo.fetch(place, record.files[place]).resolve())
    return FeatureCache(folder)
