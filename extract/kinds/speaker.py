"""One vector for the voice of each clip, of length 1: x-vectors of transformers, or d-vectors.

x-vectors are those of a `…ForXVector` model: time-delay layers on an encoder's frames, then their
mean and standard deviation (Snyder et al. 2018, "X-Vectors: Robust DNN Embeddings for Speaker
Recognition"). Their batches hold equal lengths only: the mask of transformers forgets the
dilation of the time-delay layers, and would let padding in. A clip over 30 s is divided into equal
parts, whose vectors are averaged.

d-vectors are those of Resemblyzer (Wan et al. 2018, "Generalized End-to-End Loss for Speaker
Verification"): the last state of an LSTM over 1.6 s of mel powers, averaged over windows that begin
every 0.77 s. The clip is amplified to -30 dBFS if it is softer; long silences are left in, unlike
in the original, which removes them with another package.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ser.extract.encoding import EncoderExtractor, dtype_on
from ser.extract.extractor import FeatureOptions, extractor
from ser.extract.models import DVECTORS, own_file

if TYPE_CHECKING:
    from ser.extract.encoder import Encoder, Piece


class SpeakerOptions(FeatureOptions):
    """Options of `kind: speaker`."""

    model: str  # short name, hub id or folder


@extractor("speaker")
class Speaker(EncoderExtractor):
    """Compute one speaker vector for each clip."""

    Options: ClassVar[type[FeatureOptions]] = SpeakerOptions
    frame_rate: float | None = None  # one frame for a clip

    def build_encoder(self, device: str, trained: bool = False) -> "Encoder":
        """Load the model."""
        from ser.extract.kinds.speaker_models import DVectorEncoder, XVectorEncoder

        if self._dvectors is not None:
            return DVectorEncoder(self._dvectors).to(device)
        return XVectorEncoder(self.options.model, self.folder, dtype_on(device)).to(device)

    @property
    def _dvectors(self) -> Path | None:
        return own_file(self.folder, DVECTORS)

    def batch_key(self, size: int) -> Hashable:
        """Return the length, or nothing for the windows of d-vectors."""
        return size if self._dvectors is None else None

    def compute(self, batch: "Sequence[list[Piece]]") -> list[np.ndarray]:
        """Return the vector of each clip, float32 `(1, dim)`."""
        vectors = [np.concatenate(parts).mean(axis=0) for parts in self.frames_of_pieces(batch)]
        return [(vector / np.linalg.norm(vector))[np.newaxis] for vector in vectors]
