"""The cache in an object store (S3 and what speaks its protocol, or any other fsspec URL).

    s3://bucket/cache/<feature>/<fingerprint>/…        the same files as in a folder
    $SER_MIRROR/<hash of the URL>/<feature>/…          what was read or written here, file by file

An object store has no rename, so a shard exists when its own zarr.json does, which is uploaded last
and deleted first. Shards never change and their names are never used twice, so what is in
the mirror is not checked again; only small files (feature.json, index.parquet, failed.parquet) are
fetched again. Frames are then read from mapped local files like any others: the first epoch waits
for the network, the next ones do not, and the price is disk space for what was read.

Endpoint and credentials are configured as for every fsspec program: AWS_ENDPOINT_URL, AWS_PROFILE,
~/.aws/config, ~/.config/fsspec. Retries are botocore's.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from ser.cache.urls import check_place, check_url, is_url, without_secrets
from ser.corpus.atomic import staged
from ser.corpus.errors import UserError
from ser.version import install

if TYPE_CHECKING:
    import zarr

DELETED = ".deleted-"  # the name of a folder that is being deleted begins with it
AT_ONCE = 8  # files; s3fs cuts large ones into parallel ranges besides


class StorageError(UserError, OSError):
    """The storage refused a request or was not reached.

    It is an `OSError` as well, so that a writer can keep what it could not send.
    """


class AbsentError(StorageError, FileNotFoundError):
    """A file, or its bucket, does not exist."""


class Root:
    """A cache of features: a folder, or a URL that is mirrored in a folder.

    Raises `UserError` when the URL cannot be opened: no such protocol, package, bucket or mirror.
    """

    def __init__(self, root: str | Path) -> None:
        self.local = Path(root)
        self.url: str | None = None
        if not is_url(root):
            check_place(str(root))
        else:
            check_url(str(root))
            self.url = str(root).rstrip("/")
            self.local = _mirror(self.url)
            self._storage, self._path = _open(self.url)
            self._require_bucket(self.url)

    def folder(self, name: str, fingerprint: str) -> tuple[Path, "Remote | None"]:
        """Return the folder of one fingerprint, whether it exists or not."""
        local = self.local / name / fingerprint
        if self.url is None:
            return local, None
        return local, Remote(f"{self.url}/{name}/{fingerprint}", local)

    def folders(self, name: str | None = None) -> list[tuple[Path, "Remote | None"]]:
        """List the folders that hold a feature.json, of one feature or of all.

        Of a remote one feature.json is fetched again.
        """
        if self.url is None:
            records = sorted(self.local.glob(f"{name or '*'}/*/feature.json"))
            return [(f.parent, None) for f in records if not f.parent.name.startswith(DELETED)]
        places = [
            self.folder(feature, fingerprint)
            for feature in ([name] if name else self._below(""))
            for fingerprint in self._below(f"/{feature}")
        ]
        return [
            (local, remote)
            for local, remote in places
            if remote and remote.fetch("feature.json", again=True)
        ]

    def _require_bucket(self, url: str) -> None:
        bucket = self._path.partition("/")[0]
        try:
            # a user with access to a part of the bucket may be denied this
            with _reaching(url), suppress(PermissionError):
                if bucket:
                    self._storage.info(bucket)
        except AbsentError as error:
            raise AbsentError(
                f"{url}: there is no bucket '{bucket}'; make it, or check the URL and "
                "AWS_ENDPOINT_URL."
            ) from error

    def _below(self, path: str) -> list[str]:
        assert self.url is not None
        self._storage.invalidate_cache()
        try:
            with _reaching(self.url + path):
                entries = self._storage.ls(self._path + path, detail=True)
        except AbsentError:
            return []
        folders = [entry["name"] for entry in entries if entry["type"] == "directory"]
        return sorted({f.rstrip("/").rpartition("/")[2] for f in folders} - {".", ".."})


class Remote:
    """One feature's folder in an object store, and its mirror on this machine.

    May be used from several threads. Every method raises `StorageError`, in one sentence, when the
    storage refuses or is not reached.
    """

    def __init__(self, url: str, local: Path) -> None:
        self.url = url.rstrip("/")
        self.local = local
        self._storage, self._path = _open(self.url)

    def committed(self, under: str) -> set[str]:
        """Return the names of whole shards: folders with a zarr.json, stems of Parquet files.

        One flat listing, a request for every thousand files.
        """
        paths = [Path(name) for name in self._listed(under)]
        groups = {p.parent.name for p in paths if p.name == "zarr.json" and len(p.parts) == 2}
        return groups | {p.stem for p in paths if p.suffix == ".parquet" and len(p.parts) == 1}

    def fetch(self, name: str, again: bool = False) -> bool:
        """Fetch one file unless the mirror has it; returns False when the storage has none.

        The mirror's file, if any, stays in that case.
        """
        if again or not (self.local / name).exists():
            try:
                self._get(name)
            except FileNotFoundError:
                return False
        return True

    def fetch_tree(self, under: str, leave: Sequence[str] = ()) -> None:
        """Fetch every file of a folder that the mirror lacks, except those below `leave`.

        The folder's own zarr.json comes last.
        """
        left = tuple(f"{folder}/" for folder in leave)
        absent = [
            f"{under}/{name}"
            for name in self._listed(under)
            if not name.startswith(left) and not (self.local / under / name).exists()
        ]
        for names in _marker_last(absent, f"{under}/zarr.json"):
            _at_once(self._get, names)

    def upload(self, source: Path, under: str) -> None:
        """Send a file, or a folder whose own zarr.json goes last."""
        if source.is_file():
            self._put(source, under)
            return
        files = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
        for names in _marker_last(sorted(files), "zarr.json"):
            _at_once(lambda name: self._put(source / name, f"{under}/{name}"), names)

    def put(self, name: str) -> None:
        """Send the mirror's file of this name."""
        self.upload(self.local / name, name)

    def delete(self, under: str) -> None:
        """Delete a file or a folder, in the storage and the mirror; its own zarr.json goes first.

        "" is all of the storage; the mirror then stays.
        """
        names = [f"{under}/{name}".strip("/") for name in self._listed(under)]
        with _reaching(f"{self.url}/{under}"):
            for some in reversed(_marker_last(names, f"{under}/zarr.json")):
                self._storage.rm([f"{self._path}/{name}" for name in some])
        if not under:
            return
        copy = self.local / under
        if copy.is_dir():
            (copy / "zarr.json").unlink(missing_ok=True)
            shutil.rmtree(copy, ignore_errors=True)
        else:
            copy.unlink(missing_ok=True)

    def group(self, under: str) -> "zarr.Group":
        """Open a folder of the storage as a read-only Zarr group."""
        import zarr

        with _reaching(f"{self.url}/{under}"):
            return zarr.open_group(f"{self.url}/{under}", mode="r")

    def nbytes(self, under: str) -> int:
        """Return the bytes of all files of a folder in the storage."""
        return sum(self._listed(under).values())

    def _listed(self, under: str) -> dict[str, int]:
        """Return files of a folder, relative to it, and their bytes; "" is a file of that name."""
        top = f"{self._path}/{under}".rstrip("/")
        self._storage.invalidate_cache()
        with _reaching(f"{self.url}/{under}"):
            files = self._storage.find(top, detail=True)
        return {
            path.removeprefix(top).removeprefix("/"): file["size"]
            for path, file in files.items()
            # neither what would lead out of the mirror, nor the web console's empty "folders"
            if ".." not in path.split("/") and not path.endswith("/")
        }

    def _get(self, name: str) -> None:
        target = self.local / name
        with _reaching(f"{self.url}/{name}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with staged(target) as part:
                self._storage.get_file(f"{self._path}/{name}", str(part))

    def _put(self, source: Path, name: str) -> None:
        place = f"{self._path}/{name}"
        with _reaching(f"{self.url}/{name}"):
            if not self._storage.async_impl:  # fsspec's object stores are asynchronous
                self._storage.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._storage.put_file(str(source), place)


def _marker_last(names: Sequence[str], marker: str) -> list[list[str]]:
    groups = [[n for n in names if n != marker], [n for n in names if n == marker]]
    return [group for group in groups if group]


def _at_once(task: Callable[[str], None], names: Sequence[str]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(task, names))


def _mirror(url: str) -> Path:
    given = os.environ.get("SER_MIRROR")
    home = Path(given).expanduser() if given else user_cache_path("ser")
    local = home / hashlib.sha256(url.encode()).hexdigest()[:16]
    try:
        local.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{local}: the mirror of {url} cannot be made ({error.strerror}); set SER_MIRROR to a "
            "folder that can be written."
        ) from error
    return local


def _open(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        storage, path = url_to_fs(url)
    except Exception as error:  # packages missing, hosts that refuse, and each client's own
        raise UserError(
            f"{url}: it cannot be opened ({_reason(error)}); run `{install('remote')}` for "
            "s3://, or install the fsspec package of its protocol."
        ) from error
    return storage, path.rstrip("/")


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Raise what fails on the way to the storage as a sentence that names the URL."""
    try:
        yield
    except FileNotFoundError as error:
        raise AbsentError(f"{url}: this or its bucket does not exist; check the URL.") from error
    except Exception as error:  # botocore's are no OSErrors, and other clients have their own
        remedy = "check the network, AWS_ENDPOINT_URL and the credentials (AWS_PROFILE or the keys)"
        if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
            remedy = "repair or make room for the mirror, or set SER_MIRROR to another folder"
        raise StorageError(f"{url}: {_reason(error)}; {remedy}.") from error


def _reason(error: Exception) -> str:
    """Return a client's message on one line, its URLs without secrets."""
    text = " ".join(without_secrets(str(error)).split()).rstrip(".")
    return text[:300] or type(error).__name__
