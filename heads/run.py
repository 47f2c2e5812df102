"""The heads stage: every head of a run, one after another, resumable epoch by epoch.

    runs/<run>/heads/<head>/
      history.csv       one row an epoch (of every fold, where the head is cross-fitted)
      head.safetensors  the best epoch's weights; fold-0.safetensors … of a cross-fitted head
      logits.h5         every utterance of every split
      head.json         what it was made from; written last, so its existence means done

A head is current when its fingerprint is: its config, its features' fingerprints and the very rows
they hold (of its views too), the labels and the splits. Utterances whose extraction failed are left
out of all heads alike, so that the stacker finds the same rows everywhere; one that failed only in
a view is read clean. A head that cannot be trained is reported, and the others go on.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cache.files import fingerprint
from corpus.check import require_speaker_disjoint
from corpus.errors import UserError
from heads.job import HeadsJob, made_from, open_features, read_done


@dataclass(frozen=True)
class HeadReport:
    """Say what became of one head; `score` is that of the dev set which `score_name` names."""

    name: str
    done: str  # "trained", "current" or "failed"
    score: float | None
    score_name: str
    epochs: int
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Progress:
    """Say how far a head has come; `epoch` of `epochs` are done, over all folds."""

    head: str
    fold: int | None
    epoch: int
    epochs: int
    score: float | None  # of the last epoch, on dev
    seconds: float


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
    usable = job.usable()
    for name in names:
        started, score_name = time.monotonic(), job.configs[name].chosen_by
        try:
            done, what = read_done(job.run, name), "current"
            if force or not _is_current(job, name, usable):
                done, what = _fit(job, name, usable, device, after_epoch), "trained"
        except (UserError, RuntimeError, ValueError) as error:  # PyTorch's are RuntimeErrors
            said = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            seconds = time.monotonic() - started
            yield HeadReport(name, "failed", None, score_name, 0, seconds, said)
        else:
            score, epochs = done["score"], done["epochs"]
            yield HeadReport(name, what, score, score_name, epochs, done["seconds"])


def _fit(
    job: HeadsJob, name: str, usable: Sequence[str], device: str, after_epoch: AfterEpoch
) -> dict[str, Any]:
    from heads.fit import fit_head  # torch, which reading what is there does not need

    started = time.monotonic()

    def told(fold: int | None, epoch: int, epochs: int, score: float | None) -> None:
        after_epoch(Progress(name, fold, epoch, epochs, score, time.monotonic() - started))

    return fit_head(job, name, usable, device, told)


def current_heads(job: HeadsJob, names: Sequence[str]) -> list[str]:
    """Name those of the heads that have been trained from just what there is now."""
    usable = job.usable()
    return [name for name in names if _is_current(job, name, usable)]


def _is_current(job: HeadsJob, name: str, usable: Sequence[str]) -> bool:
    done = read_done(job.run, name)
    return bool(done.get("fingerprint") == _fingerprint(job, name, usable))


def _fingerprint(job: HeadsJob, name: str, usable: Sequence[str]) -> str:
    return fingerprint(made_from(job, name, usable, open_features(job, name, usable)))
