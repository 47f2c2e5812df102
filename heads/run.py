"""The heads stage: every head of a run, one after another, resumable epoch by epoch.

    runs/<run>/heads/<head>/
      history.csv       one row an epoch (of every fold, where the head is cross-fitted)
      head.safetensors  the best epoch's weights; fold-0.safetensors … of a cross-fitted head
      logits.h5         every utterance of every split
      head.json         what it was made from, and the checksums of the other files; written last

A head is current when its files are undamaged and its fingerprint is the present one: of its
config, its features' fingerprints and the rows they hold (of its views too), the labels and
the splits. One process at a time trains a head (`ser.cache.locks`); another continues with other
heads. Utterances whose extraction failed are left out of all heads alike, so that the stacker finds
the same rows everywhere; one that failed only in a view is read clean. A head that cannot be
trained is reported, and the others go on.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from ser.cache.checksums import is_undamaged
from ser.cache.locks import locked
from ser.corpus.check import require_speaker_disjoint
from ser.corpus.errors import BusyError, DamagedError, UserError
from ser.heads.config import HeadConfig
from ser.heads.job import HeadJob, HeadsJob
from ser.heads.record import HeadRecord, read_done
from ser.heads.registry import HEADS, LOSSES, SAMPLERS

LOCK = ".lock"  # in a head's folder, while it is trained


@dataclass(frozen=True)
class HeadReport:
    """The result of training one head; `score` is its dev score, `score_name` which one."""

    name: str
    done: str  # "trained", "current", "failed", or "busy": another process trains it
    score: float | None
    score_name: str
    epochs: int
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Progress:
    """The progress of one head: `epoch` of `epochs` are done, over all folds."""

    head: str
    fold: int | None
    epoch: int
    epochs: int
    score: float | None  # of the last epoch, on dev
    seconds: float


log = logging.getLogger("ser.heads")
MISTAKES = (UserError, RuntimeError, ValueError, SystemExit)  # also of a built-in head
AfterEpoch = Callable[[Progress], None]


def train_heads(
    job: HeadsJob,
    names: Sequence[str],
    device: str = "cpu",
    force: bool = False,
    after_epoch: AfterEpoch = lambda progress: None,
) -> Iterator[HeadReport]:
    """Train the named heads in order, skipping those that are current; yield a report each.

    Raises `UserError` for a speaker in two splits, or a feature that is not cached. What goes wrong
    with one head is in its report.
    """
    require_speaker_disjoint(job.manifest)
    log.debug("%s: %d utterances", job.run, len(job.usable))  # raises for those not cached
    for name in names:
        yield _report(job.heads[name], device, force, after_epoch)


def _report(head: HeadJob, device: str, force: bool, after_epoch: AfterEpoch) -> HeadReport:
    """Train a head unless it is current; what goes wrong with it is in the report."""
    started, score_name = time.monotonic(), head.config.chosen_by
    try:
        record, state = _train(head, device, force, after_epoch)
    except BusyError as error:
        state, reason = "busy", str(error)
    # PyTorch's are RuntimeErrors; a user's head or loss may raise anything
    except (Exception, SystemExit) as error:
        own = _has_own_parts(head.config) and not isinstance(error, OSError | MemoryError)
        if not (own or isinstance(error, MISTAKES)):
            raise
        plain = str(error).strip() and not isinstance(error, SystemExit)
        state, reason = "failed", str(error).strip().splitlines()[0] if plain else repr(error)
    else:
        score, seconds = record.score, record.seconds
        return HeadReport(head.name, state, score, score_name, record.epochs, seconds)
    return HeadReport(head.name, state, None, score_name, 0, time.monotonic() - started, reason)


def _train(
    head: HeadJob, device: str, force: bool, after_epoch: AfterEpoch
) -> tuple[HeadRecord, str]:
    """Return the record of a head and whether it was "trained" or is "current"."""
    record = None if force else _current(head)
    if record is not None:
        _tidy(head)
        return record, "current"
    with _locked(head):
        remove_leftovers(head.folder)
        record = None if force else _current(head)  # another process may have trained it meanwhile
        if record is not None:
            return record, "current"
        from ser.heads.fit import fit_head  # imports torch, which what is current does not need

        log.debug("%s: training on %s", head.folder, device)
        return fit_head(head, device, after_epoch), "trained"


def _locked(head: HeadJob) -> AbstractContextManager[None]:
    return locked(head.folder / LOCK, f"head '{head.name}' is being trained")


def _has_own_parts(config: HeadConfig) -> bool:
    """Return whether a head, a loss or a sampler of a config is a user's."""
    losses = {use.name for stage in config.stages for use in stage.loss}
    samplers = {stage.sampler.name for stage in config.stages}
    return (
        config.head not in HEADS.built_in
        or not losses <= set(LOSSES.built_in)
        or not samplers <= set(SAMPLERS.built_in)
    )


def _tidy(head: HeadJob) -> None:
    """Delete what a killed process left of a head that is done.

    A read-only folder keeps it, and one without leftovers is not locked.
    """
    with suppress(OSError, BusyError):
        if leftovers(head.folder):
            with _locked(head):
                remove_leftovers(head.folder, done=True)


def leftovers(folder: Path, done: bool = True) -> list[Path]:
    """List what killed processes left in a head's folder; checkpoints too of a head that is done.

    Only who holds the folder's lock may delete it.
    """
    patterns = [".*.part", ".*.checkpoint.*", ".*.safetensors.*"]
    patterns += [LOCK, ".*.checkpoint"] if done else []
    return [path for pattern in patterns for path in folder.glob(pattern)]


def remove_leftovers(folder: Path, done: bool = False) -> None:
    """Delete what killed processes left in a head's folder, whose lock is held."""
    for path in leftovers(folder, done):
        if path.name != LOCK:
            path.unlink(missing_ok=True)


def current_heads(job: HeadsJob, names: Sequence[str]) -> list[str]:
    """Name the heads that are up to date with their config, features and labels."""
    return [name for name in names if _current(job.heads[name]) is not None]


def _current(head: HeadJob) -> HeadRecord | None:
    """Return the record of a head that is current; None of one that is to be trained."""
    record = read_undamaged(head.job.run, head.name)
    return record if record is not None and record.fingerprint == head.fingerprint else None


def read_undamaged(run: Path, name: str) -> HeadRecord | None:
    """Read the record of a head; None where it, or a file that it has a checksum of, is damaged."""
    try:
        record = read_done(run, name)
    except DamagedError:
        return None
    if record is None:
        return None
    files = [f"{part}.safetensors" for part in record.weights] + ["logits.h5"]
    expected = {**dict.fromkeys(files), **record.checksums}  # older versions had no checksums
    return record if is_undamaged(run / "heads" / name, expected) else None
