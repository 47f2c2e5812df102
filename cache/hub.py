"""Repositories of the Hugging Face hub that hold a bundle or a feature of ser.

    hf:owner/name              the newest revision
    hf:owner/name@revision     a branch, a tag or a commit

    README.md     the card
    ser.json      what is in the repository, with the size and sha256 of every file
    …             the bundle (in a repository of models), or the feature's folder (of data sets)

`huggingface_hub` transfers and keeps the files: HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN
hold as they do there. What is downloaded is compared with ser.json of the same commit, each time.
That detects damage; it does not prove who made the repository.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ser.cache.record import Count, FileName, Record
from ser.corpus.errors import StoppedError, UserError, one_line

FORMAT: Literal["ser-hub/1"] = "ser-hub/1"
RECORD, CARD = "ser.json", "README.md"
PLACE = re.compile(r"hf:(\w[\w.-]{0,95}/\w[\w.-]{0,95})(?:@(\w[\w./-]{0,199}))?", re.ASCII)
LARGEST_RECORD = 1 << 22  # bytes
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
Content = Literal["bundle", "feature"]
FilePath = Annotated[
    str, StringConstraints(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*\z", max_length=500)
]  # no part begins with a dot


class HubFile(BaseModel):
    """The checksum and size of one file."""

    model_config = ConfigDict(frozen=True, strict=True)

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\z")]
    size: Count


class HubRecord(Record):
    """The record ser.json: the files of the bundle or feature `name`."""

    remedy: ClassVar[str] = "ask its owner to push it again"

    format: Literal["ser-hub/1"]
    content: Content
    name: FileName
    files: Annotated[dict[FilePath, HubFile], Field(min_length=1, max_length=100_000)]


def is_hub(place: object) -> bool:
    """Return whether a place is one on the hub: hf:owner/name."""
    return str(place).startswith("hf:")


@dataclass(frozen=True)
class HubRepo:
    """A repository of the hub, `name` being owner/name.

    >>> HubRepo.parse("hf:anna/calls@v1", "bundle")
    HubRepo(name='anna/calls', content='bundle', revision='v1')
    """

    name: str
    content: Content
    revision: str | None = None

    @classmethod
    def parse(cls, place: object, content: Content) -> Self:
        """Read hf:owner/name@revision; raises `UserError`."""
        match = PLACE.fullmatch(str(place))
        if match is None:
            raise UserError(
                f"{one_line(str(place))[:200]}: it is not a repository of the hub; give "
                "hf:owner/name, or hf:owner/name@revision."
            )
        return cls(match[1], content, match[2])

    def __str__(self) -> str:
        return f"hf:{self.name}" + (f"@{self.revision}" if self.revision else "")

    @property
    def title(self) -> str:
        """Return its name without the owner's."""
        return self.name.partition("/")[2]

    @property
    def type(self) -> str:
        """Return the hub's type of it: model or dataset."""
        return "model" if self.content == "bundle" else "dataset"

    def read(self) -> tuple[HubRecord, Self]:
        """Return the record of the files, and the repository at the commit that it is of.

        Without a network the newest one that was downloaded before. Raises `UserError`.
        """
        path = self._download(RECORD)
        if path.stat().st_size > LARGEST_RECORD:
            raise UserError(f"{self}: its ser.json is too large; {self._wanted}.")
        try:
            record = HubRecord.read(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), f"{self}: {RECORD}")) from error
        if record.content != self.content:
            raise UserError(f"{self}: it holds a {record.content}; {self._wanted}.")
        return record, replace(self, revision=path.parent.name)

    def fetch(self, name: str, expected: HubFile) -> Path:
        """Return a file of the repository, downloaded unless it was before, and compared.

        Raises `UserError` for another size or sha256.
        """
        path = self._download(name)
        if path.stat().st_size == expected.size and _digest(path) == expected.sha256:
            return path
        raise UserError(
            f"{self}: the sha256 of {name} is not that in ser.json, so it was damaged or changed; "
            f"delete {path.resolve()} and try again, or ask the owner of the repository."
        )

    def _download(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        with self._reaching(name):
            return Path(
                hf_hub_download(self.name, name, repo_type=self.type, revision=self.revision)
            )

    def require_writable(self) -> None:
        """Raise `UserError` where nothing can be pushed, before any work is done for it."""
        from huggingface_hub import get_token
        from huggingface_hub.constants import is_offline_mode

        if self.revision is not None:
            raise UserError(f"{self}: a push makes the revision; give hf:{self.name} alone.")
        if is_offline_mode():
            raise UserError(f"{self}: HF_HUB_OFFLINE is set, so nothing can be pushed; unset it.")
        if get_token() is None:
            raise UserError(f"{self}: the hub takes files with a token only; {LOGIN}.")

    def push(self, name: str, card: str, files: Mapping[str, Path], private: bool = False) -> str:
        """Add files, their record and the card in one commit; return it.

        Args:
            name: of the bundle or the feature.
            card: the text of README.md.
            files: by their path in the repository.
            private: create the repository as a private one.

        Raises `UserError` where the hub refuses, or the repository holds anything else.
        """
        from huggingface_hub import CommitOperationAdd, HfApi

        record = HubRecord(
            format=FORMAT,
            content=self.content,
            name=name,
            files={
                place: HubFile(sha256=_digest(path), size=path.stat().st_size)
                for place, path in files.items()
            },
        )
        added = [CommitOperationAdd(place, str(path)) for place, path in files.items()]
        texts = {RECORD: record.to_json(), CARD: card}
        added += [CommitOperationAdd(place, text.encode()) for place, text in texts.items()]
        api = HfApi()
        with self._reaching():
            api.create_repo(self.name, repo_type=self.type, private=private, exist_ok=True)
            present = set(api.list_repo_files(self.name, repo_type=self.type)) - {".gitattributes"}
            if present and RECORD not in present:
                raise UserError(
                    f"{self}: it has files of another kind, and a push would replace its card; "
                    "give a new name."
                )
            done = api.create_commit(
                self.name, added, commit_message=f"Push {name}", repo_type=self.type
            )
        return str(done.oid)

    @contextmanager
    def _reaching(self, file: str = "") -> Iterator[None]:
        """Raise what fails on the way to the hub as a sentence that names the repository."""
        log = logging.getLogger("huggingface_hub")
        level = log.level
        log.setLevel(logging.ERROR)  # it would print two lines for each time that it tries again
        try:
            yield
        except (UserError, ModuleNotFoundError):
            raise
        except Exception as error:  # each transport raises its own
            raise self._failure(error, file) from error
        finally:
            log.setLevel(level)

    def _failure(self, error: Exception, file: str) -> UserError:
        """Return the problem and its remedy; `StoppedError` where the network or the hub failed."""
        from huggingface_hub import errors
        from huggingface_hub.constants import is_offline_mode

        absent = f"{self}: it was not downloaded before, and"
        if isinstance(error, errors.LocalEntryNotFoundError) and not is_offline_mode():
            return StoppedError(
                f"{absent} the hub cannot be reached; check the network and HF_ENDPOINT."
            )
        if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
            return UserError(f"{absent} HF_HUB_OFFLINE is set; unset it.")
        problems: dict[type[Exception], str] = {
            errors.GatedRepoError: f"its owner grants access on its page; ask for it, and {LOGIN}",
            errors.RepositoryNotFoundError: (
                f"there is no such repository of {self.type}s, or it is private; check the name, "
                f"or {LOGIN}"
            ),
            errors.RevisionNotFoundError: (
                "there is no such revision; give a branch, a tag or a commit of it"
            ),
        }
        if file:
            problems[errors.EntryNotFoundError] = f"it has no {file}; {self._wanted}"
        for kind, problem in problems.items():
            if isinstance(error, kind):
                return UserError(f"{self}: {problem}.")
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            return UserError(
                f"{self}: the hub refuses the token for this; {LOGIN} to one that may do it."
            )
        reason = one_line(f"{type(error).__name__}: {error}").strip().rstrip(":. ")[:200]
        return StoppedError(
            f"{self}: the hub cannot be used ({reason}); check the network and HF_ENDPOINT."
        )

    @property
    def _wanted(self) -> str:
        command = "ser pack --push" if self.content == "bundle" else "ser cache push"
        return f"give a repository that `{command}` has written"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
