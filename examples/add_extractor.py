"""Add an extractor: log-mel energies, from a class to verified frames in a cache.

    python examples/add_extractor.py

First pytest runs the tests that every extractor must pass, then the extractor is applied to a few
sentences spoken by espeak-ng (`pip install 'ser-pipeline[demo]'`). In your own project the class is
in a module that `plugins:` in pipeline.yaml names, the tests are among your tests, and
`features: {mel: {kind: log_mel, bands: 80}}` requests the frames.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import PositiveInt

from ser import FeatureCache
from ser.extract.extractor import SAMPLE_RATE, Extractor, FeatureOptions, extractor, parse_options
from ser.extract.job import Job
from ser.extract.run import extract
from ser.extract.testing import ExtractorConformance
from ser.synthetic.speech import synthesize

WINDOW, HOP = 400, 160  # samples: 25 ms every 10 ms


class LogMelOptions(FeatureOptions):
    """The keys of an entry of `features:` beside those of every kind."""

    bands: PositiveInt = 64


@extractor("log_mel")
class LogMel(Extractor):
    """Log energies of mel bands from 0 to 8 kHz, in Hann windows centred every 10 ms."""

    Options = LogMelOptions
    frame_rate = SAMPLE_RATE / HOP

    def load(self, device: str) -> None:
        """Compute the filters `(frequencies, bands)`; a model would be loaded here."""
        from transformers.audio_utils import mel_filter_bank

        bands = self.options.bands
        self.item_shape = (bands,)
        self._filters = mel_filter_bank(
            WINDOW // 2 + 1, bands, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney"
        )

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `(frames, bands)` float32 for each clip, independent of the rest of the batch."""
        return [self._frames(wave) for wave in batch]

    def _frames(self, wave: np.ndarray) -> np.ndarray:
        windows = sliding_window_view(np.pad(wave, WINDOW // 2), WINDOW)[::HOP]
        power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW))) ** 2
        frames: np.ndarray = np.log(power @ self._filters + 1e-10).astype(np.float32)
        return frames


class TestLogMel(ExtractorConformance):
    """The tests of every extractor, such as that a batch equals its clips alone."""

    layered = False  # there are no layers to choose from

    def make(self, **options: Any) -> LogMel:
        """Return a loaded extractor."""
        log_mel = LogMel(LogMelOptions(kind="log_mel", **options))
        log_mel.load("cpu")
        return log_mel


def main(folder: Path) -> None:
    """Extract a small corpus twice, verify the cache and read from it."""
    manifest = synthesize(folder, speakers=5, per_class=1)
    options = parse_options({"kind": "log_mel", "bands": 80})
    job = Job("mel", options, manifest, folder / "audio", folder / "cache")
    for _ in range(2):  # cached clips are not extracted again
        report = extract(job, "cpu")
        print(f"{report.extracted} extracted, {report.cached} cached, {len(report.failed)} failed")
    cache = FeatureCache.open(folder / "cache", "mel")
    print(f"{len(cache.verify())} damaged of {len(cache.index())}")
    utterance = manifest.utterances("dev")[0]
    frames = cache.frames(utterance)
    print(f"{utterance}: {len(frames)} frames of {frames.shape[1]} bands, {frames.dtype}")


if __name__ == "__main__":
    subprocess.run([sys.executable, "-m", "pytest", __file__], check=True)
    with TemporaryDirectory() as folder:
        main(Path(folder))
