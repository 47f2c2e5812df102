"""Batches of waveforms or texts, decoded, augmented, cropped and prepared ahead in threads.

In training a clip is joined with another with probability `join` (`ser.finetune.joining`), changed
by one of the views with probability `augmented`, and cropped at random where it is then longer than
`crop`; all of this depends only on (seed, epoch, utterance), so that a resumed training sees the
same inputs. For scoring the clip is unchanged, limited to the middle `hear` seconds.

Models without an attention mask run inputs of one length together: in training their clips are cut
to a multiple of 0.1 s, so that some have the same length.

A clip that cannot be decoded is replaced by digital silence, and is neither trained on nor scored;
a clip joined with it is left out of training in that epoch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ser.corpus.lookahead import batches_ahead
from ser.corpus.other_speakers import OtherSpeakers
from ser.extract.encoder import Encoder, Piece, collate
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.sources import AudioSources, Sources, hash64
from ser.finetune.config import FineTuneConfig
from ser.finetune.joining import Joins
from ser.heads.training.targets import Labelled

THREADS = 2
AHEAD = 3  # batches
GRID = SAMPLE_RATE // 10  # samples; clips of models without a mask are cut to multiples of it


@dataclass(frozen=True)
class Inputs:
    """A batch: `inputs (batch, length, …)`, and `sizes` as `Encoder.forward` takes them.

    `usable` `(batch,)` bool: which clips could be read.
    """

    inputs: Tensor
    sizes: Tensor
    usable: np.ndarray


class Clips:
    """The clips of a corpus, prepared for one encoder.

    `failed` maps the utterances that could not be read so far to the reason. `train` are the
    training utterances, from which partners of joined clips and backgrounds of views are drawn.
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
        self.others = OtherSpeakers(dict(zip(train.utterances, train.speakers, strict=True)))
        self.joins = Joins(config, train)
        self.failed: dict[str, str] = {}
        self._audio = isinstance(sources, AudioSources)
        self._sizes = sources.sizes()

    def costs(self, utterances: Sequence[str], epoch: int | None) -> np.ndarray:
        """Return the number of frames of each clip, int64; `epoch` is None for scoring."""
        most = round((self.config.hear if epoch is None else self.config.crop) * SAMPLE_RATE)
        sizes = [self._size(u, epoch) for u in utterances]
        limited = [min(size, most) if self._audio else size for size in sizes]
        return np.array([round(self.encoder.cost(size)) for size in limited], np.int64)

    def _size(self, utterance: str, epoch: int | None) -> int:
        join = None if epoch is None else self.joins.draw(utterance, epoch)
        size = self._sizes[utterance]
        return size if join is None else join.samples(size, self._sizes[join.partner])

    def batches(self, plan: Sequence[Sequence[str]], epoch: int | None) -> Iterator[Inputs]:
        """Yield the batches of a plan in order; `epoch` is None for scoring."""
        prepare = partial(self._prepared, epoch=epoch)
        yield from map(self._collated, batches_ahead(prepare, plan, THREADS, AHEAD))

    def _prepared(self, utterance: str, epoch: int | None) -> Piece | None:
        try:
            source = self.sources.load(utterance)
            if self._audio:
                source = self._cropped(utterance, source, epoch)
            return self.encoder.prepare(source)[0]
        except (ValueError, OSError) as error:
            self.failed[utterance] = str(error)
            return None

    def _cropped(self, utterance: str, wave: np.ndarray, epoch: int | None) -> np.ndarray:
        """Return a clip as the encoder gets it: in training joined, augmented and cropped."""
        config = self.config
        if epoch is None:
            most = round(config.hear * SAMPLE_RATE)
            start = max(0, len(wave) - most) // 2
            return wave[start : start + most]
        join = self.joins.draw(utterance, epoch)
        if join is not None:
            wave = join.apply(wave, self.sources.load(join.partner))
        rng = np.random.default_rng(hash64(config.training.seed, epoch, utterance))
        views = list(config.augment.values())
        if views and rng.random() < config.training.augmented:
            chosen = views[rng.integers(len(views))]
            view = chosen.model_copy(update={"seed": int(rng.integers(2**31))})
            wave = view.apply(utterance, wave, self.sources.load, self.others)
        most = min(len(wave), round(config.crop * SAMPLE_RATE))
        if not self.encoder.batch_mask and most > GRID:
            most -= most % GRID
        start = int(rng.integers(len(wave) - most + 1))
        return wave[start : start + most]

    def _collated(self, clips: Sequence[Piece | None]) -> Inputs:
        usable = np.array([clip is not None for clip in clips])
        pieces = [self._silence() if clip is None else clip for clip in clips]
        inputs = collate([piece.inputs for piece in pieces], self.encoder.padding)
        sizes = torch.tensor([(len(piece.inputs), piece.frames) for piece in pieces])
        return Inputs(inputs.pin_memory() if self.pin else inputs, sizes, usable)

    def _silence(self) -> Piece:
        return self.encoder.prepare(np.zeros(GRID, np.float32) if self._audio else "")[0]
