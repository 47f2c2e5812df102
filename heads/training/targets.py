"""The targets of the clips of a batch, and where they come from in the manifest.

classes     (batch, classes)     1 at the consensus class; a row of zeros without one
votes       (batch, classes [+1])  shares of the raters' votes, the last of `other` where it is
                                 kept; a clip with a class and no votes has that class, one with
                                 neither a row of zeros
attributes  (batch, attributes)  1 to 7, NaN where unknown
gender      (batch, genders)     1 at the gender, a row of zeros where unknown

A row of zeros (or NaN) takes no part in a loss. As all are numbers and none an index, a mixture of
two clips is the mixture of their rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ser.corpus.columns import FURTHER
from ser.corpus.errors import UserError, plural
from ser.corpus.manifest import Manifest
from ser.heads.config import HeadConfig


@dataclass(frozen=True)
class Targets:
    """The targets of a batch, float32; those that no loss reads are None."""

    classes: Tensor
    votes: Tensor | None = None
    attributes: Tensor | None = None
    gender: Tensor | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> "Targets":
        """Apply a function to each of the targets that are not None."""
        targets = {f.name: getattr(self, f.name) for f in fields(self)}
        return Targets(**{n: function(rows) for n, rows in targets.items() if rows is not None})

    def mixed(self, partner: Tensor, share: Tensor) -> "Targets":
        """Return share * targets + (1 - share) * the partners' targets.

        `partner` int64 `(batch,)` indexes the batch, `share` is `(batch,)`. Where share is 1 the
        partner adds nothing, not even its NaN; a mixture with a row of zeros counts by its share.
        """
        device = self.classes.device
        partner, by = partner.to(device), share.to(device).unsqueeze(1)

        def mix(rows: Tensor) -> Tensor:
            return torch.where(by == 1, rows, by * rows + (1 - by) * rows[partner])

        return self.each(mix)


def joined(parts: Sequence[Targets]) -> Targets:
    """Return the targets of several batches as those of one."""
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Targets)}
    return Targets(**{n: torch.cat(c) for n, c in columns.items() if c[0] is not None})


@dataclass(frozen=True)
class Labelled:
    """The labels of utterances, every field aligned with `utterances`.

    `classes` int64 `(n,)`, -1 without one; `votes` float64 `(n, classes + 1)`, the last of other;
    `attributes` float32 `(n, attributes)`; `gender` int64 `(n,)`, -1 without one; `speakers`
    names, None where unknown. What no loss of the head reads is None.
    """

    utterances: list[str]
    classes: np.ndarray
    votes: np.ndarray | None = None
    attributes: np.ndarray | None = None
    gender: np.ndarray | None = None
    speakers: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.utterances)

    def take(self, positions: np.ndarray | Sequence[int]) -> "Labelled":
        """Return the rows at these positions."""
        at = np.asarray(positions, dtype=np.int64)

        def rows(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[at]

        classes = self.classes[at]
        names = [self.utterances[i] for i in at]
        speakers = [self.speakers[i] for i in at] if self.speakers else ()
        optional = rows(self.votes), rows(self.attributes), rows(self.gender)
        return Labelled(names, classes, *optional, speakers=speakers)


def labelled(config: HeadConfig, manifest: Manifest, utterances: Sequence[str]) -> Labelled:
    """Look up all that the losses of a head read, by utterance id.

    Raises `UserError` for votes, attributes or genders that the manifest has none of.
    """
    return Labelled(
        list(utterances),
        manifest.labels(utterances),
        votes=_votes(config, manifest, utterances) if "votes" in config.reads else None,
        attributes=_attributes(config, manifest, utterances),
        gender=_gender(manifest, utterances) if "gender" in config.reads else None,
        speakers=manifest.column("speaker", utterances),
    )


def count_genders(config: HeadConfig, manifest: Manifest) -> int:
    """Return how many genders a head distinguishes, 0 when no loss of it reads them."""
    return len(genders(manifest)) if "gender" in config.reads else 0


def genders(manifest: Manifest) -> list[str]:
    """List the genders of the training speakers, in the order of the head's outputs."""
    train = manifest.frame.filter(pl.col("split") == "train")
    return sorted(train["gender"].drop_nulls().unique().to_list())


def teachable(config: HeadConfig, rows: Labelled) -> np.ndarray:
    """Return the positions of the rows that can be trained on: int64.

    With `no_consensus: drop` those with a class, or for a head without a loss of classes or votes
    those with a known attribute; with `keep` those with any target that a loss of the head reads.
    """
    none = np.zeros(len(rows), dtype=bool)
    classed = rows.classes >= 0 if config.reads & {"classes", "votes"} else none
    rated = none if rows.attributes is None else ~np.isnan(rows.attributes).all(axis=1)
    if config.no_consensus == "drop":
        return np.flatnonzero(classed if config.reads & {"classes", "votes"} else rated)
    voted = none if rows.votes is None else _places(config, rows.votes).any(axis=1)
    gendered = none if rows.gender is None else rows.gender >= 0
    return np.flatnonzero(classed | rated | voted | gendered)


def soft_labels(
    config: HeadConfig, rows: Labelled, drop: np.random.Generator | None = None
) -> np.ndarray:
    """Return the shares of the votes float64 `(n, classes [+ 1])`; with `drop`, some left out.

    Annotation dropout: every vote for a common class is left out by chance, unless a clip would
    have none left. Common are the places with more than an even share of the votes of all rows:
    the corpus' majority classes, as the aim is to give the rare ones more weight (the SAIL entry of
    2025, which drops 20 %).
    """
    assert rows.votes is not None
    votes = _places(config, rows.votes)
    if drop is not None and config.votes.dropout:
        votes = _thinned(votes, config.votes.dropout, drop)
    total = votes.sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(votes, total, out=np.zeros_like(votes), where=total > 0)
    alone = (total[:, 0] == 0) & (rows.classes >= 0)
    shares[alone, rows.classes[alone]] = 1.0
    return shares


def _thinned(votes: np.ndarray, chance: float, drop: np.random.Generator) -> np.ndarray:
    total = votes.sum(axis=0)
    common = total > total.sum() / max(np.count_nonzero(total), 1)
    # where `secondary` makes it no whole number, it falls in so many equal parts of less than 1
    parts = np.ceil(votes).astype(np.int64)
    fallen = drop.binomial(parts, np.where(common, chance, 0.0))
    left = votes * (1 - fallen / np.maximum(parts, 1))
    thinned: np.ndarray = np.where(left.any(axis=1, keepdims=True), left, votes)
    return thinned


def one_hot(indices: np.ndarray, width: int) -> np.ndarray:
    """Return float32 `(n, width)`: 1 at the index, a row of zeros for -1."""
    hot: np.ndarray = np.arange(width) == indices[:, None]
    return hot.astype(np.float32)


def _places(config: HeadConfig, votes: np.ndarray) -> np.ndarray:
    return votes if config.votes.other == "keep" else votes[:, :-1]


def _votes(config: HeadConfig, manifest: Manifest, utterances: Sequence[str]) -> np.ndarray:
    first = manifest.votes(utterances)
    if not config.votes.secondary:
        return first
    return first + config.votes.secondary * manifest.votes(utterances, FURTHER)


def _attributes(
    config: HeadConfig, manifest: Manifest, utterances: Sequence[str]
) -> np.ndarray | None:
    if "attributes" not in config.reads:
        return None
    columns: list[list[float | None]] = [
        manifest.column(name, utterances) for name in config.attributes
    ]
    for name in config.attributes:
        if manifest.frame[name].is_null().all():
            raise UserError(
                f"{manifest.source}: no utterance has a value for {name}, which a loss of the head "
                "learns; leave it out of `attributes:`, or fill in the column."
            )
    return np.array(columns, dtype=np.float32).T


def _gender(manifest: Manifest, utterances: Sequence[str]) -> np.ndarray:
    names = genders(manifest)
    if len(names) < 2:
        raise UserError(
            f"{manifest.source}: the training split has {plural(len(names), 'gender')}, so that "
            "the loss `gender` has nothing to distinguish; remove it from `loss:`."
        )
    at = {name: i for i, name in enumerate(names)}
    column = manifest.column("gender", utterances)
    return np.array([at.get(name, -1) for name in column], dtype=np.int64)
