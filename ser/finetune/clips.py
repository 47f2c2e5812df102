"""Batches of waveforms or texts, decoded, changed, cut and prepared ahead in threads.

In training a clip is joined with another by the chance `join` (`ser.finetune.joining`), changed by
one of the views with the chance `augmented`, and where it is then longer than `crop`, cut at
random; all of this hangs on (seed, epoch, utterance) alone, so that a training that goes on sees
what it would have seen. For scores it is heard as it is, up to `hear` seconds of its middle.

Models that cannot be masked run inputs of one length together: in training their clips are cut to
a multiple of 0.1 s, so that some meet.

A clip that cannot be decoded is one of digital silence that teaches nothing and is not scored; with
one that it is joined with, it teaches nothing in that epoch.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from corpus.augment import Others
from extract.extractor import SAMPLE_RATE
from extract.sources import AudioSources, Sources, hash64
from heads.training.targets import Labelled
from ser.finetune.config import FineTuneConfig
from ser.finetune.encoders import Encoder, Prepared
from ser.finetune.joining import Joins

THREADS = 2
AHEAD = 3  # batches
MEETING = SAMPLE_RATE // 10


@dataclass(frozen=True)
class Inputs:
    """Hold a batch: `inputs (batch, length, …)`, `sizes` as `Encoder.forward` takes them.

    `usable` `(batch,)` bool says which clips could be read.
    """

    inputs: Tensor
    sizes: Tensor
    usable: np.ndarray


class Clips:
    """Read a corpus for one encoder; `failed` says what could not be read so far, and why.

    `train` are the training utterances: what clips are joined with, and views put behind them.
    """

    def __init__(
        self,
        config: FineTuneConfig,
        encoder: Encoder,
        sources: Sources,
        train: Labelled,
        pin: bool = False,
    ) -> None:
        self.config, self.encoder, self.sources, self.pin = config, encoder, sources, pin
        self.others = Others(dict(zip(train.utterances, train.speakers, strict=True)))
        self.joins = Joins(config, train)
        self.failed: dict[str, str] = {}
        self._audio = isinstance(sources, AudioSources)
        self._sizes = sources.sizes()

    def costs(self, utterances: Sequence[str], epoch: int | None) -> np.ndarray:
        """Return the frames that each clip takes up, int64; `epoch` is None where it is scored."""
        most = round((self.config.hear if epoch is None else self.config.crop) * SAMPLE_RATE)
        sizes = [self._size(u, epoch) for u in utterances]
        heard = [min(size, most) if self._audio else size for size in sizes]
        return np.array([round(self.encoder.cost(size)) for size in heard], np.int64)

    def _size(self, utterance: str, epoch: int | None) -> int:
        join = None if epoch is None else self.joins.of(utterance, epoch)
        own = self._sizes[utterance]
        return own if join is None else join.samples(own, self._sizes[join.partner])

    def batches(self, plan: Sequence[Sequence[str]], epoch: int | None) -> Iterator[Inputs]:
        """Yield the batches of a plan in order; `epoch` is None where they are to be scored."""
        with ThreadPoolExecutor(THREADS) as pool:
            waiting: deque[list[Future[Prepared | None]]] = deque()
            for batch in plan:
                waiting.append([pool.submit(self._prepared, u, epoch) for u in batch])
                if len(waiting) > AHEAD:
                    yield self._collated([each.result() for each in waiting.popleft()])
            while waiting:
                yield self._collated([each.result() for each in waiting.popleft()])

    def _prepared(self, utterance: str, epoch: int | None) -> Prepared | None:
        try:
            given = self.sources.load(utterance)
            if self._audio:
                given = self._heard(utterance, given, epoch)
            return self.encoder.prepare(given)
        except (ValueError, OSError) as error:
            self.failed[utterance] = str(error)
            return None

    def _heard(self, utterance: str, wave: np.ndarray, epoch: int | None) -> np.ndarray:
        """Return what is heard of a clip."""
        config = self.config
        if epoch is None:
            most = round(config.hear * SAMPLE_RATE)
            start = max(0, len(wave) - most) // 2
            return self._enough(wave[start : start + most])
        join = self.joins.of(utterance, epoch)
        if join is not None:
            wave = join.apply(wave, self.sources.load(join.partner))
        rng = np.random.default_rng(hash64(config.training.seed, epoch, utterance))
        views = list(config.augment.values())
        if views and rng.random() < config.training.augmented:
            chosen = views[rng.integers(len(views))]
            view = chosen.model_copy(update={"seed": int(rng.integers(2**31))})
            wave = view.apply(utterance, wave, self.sources.load, self.others)
        most = min(len(wave), round(config.crop * SAMPLE_RATE))
        if not self.encoder.batch_mask and most > MEETING:
            most -= most % MEETING
        start = int(rng.integers(len(wave) - most + 1))
        return self._enough(wave[start : start + most])

    def _enough(self, wave: np.ndarray) -> np.ndarray:
        if len(wave) < self.encoder.least:
            raise ValueError(
                f"{len(wave)} samples are fewer than one frame needs ({self.encoder.least})"
            )
        return wave

    def _collated(self, made: Sequence[Prepared | None]) -> Inputs:
        usable = np.array([each is not None for each in made])
        rows = [self._silence() if each is None else each for each in made]
        longest = max(len(row) for row, _ in rows)
        first = torch.from_numpy(rows[0][0])
        inputs = torch.zeros(len(rows), longest, *first.shape[1:], dtype=first.dtype)
        for into, (row, _) in zip(inputs, rows, strict=True):
            into[: len(row)] = torch.from_numpy(row)
        sizes = torch.tensor([(len(row), frames) for row, frames in rows])
        return Inputs(inputs.pin_memory() if self.pin else inputs, sizes, usable)

    def _silence(self) -> Prepared:
        return self.encoder.prepare(np.zeros(MEETING, np.float32) if self._audio else "")
