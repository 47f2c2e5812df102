"""Add an extractor: log-mel energies, from a class to checked frames in a cache.

    python examples/add_extractor.py

First the class is held to what every extractor must keep (by pytest), then a few sentences that
espeak-ng speaks (`pip install 'ser[demo]'`) are extracted. In a project of your own the extractor
stands in a module that `plugins:` of pipeline.yaml names, the suite in a test, and `features: {mel:
{kind: log_mel, bands: 80}}` asks for the frames.
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

from cache.features import FeatureCache
from extract.extractor import SAMPLE_RATE, Extractor, FeatureOptions, extractor, parse_options
from extract.run import Job, extract
from extract.testing import ExtractorConformance
from ser.synthesis import synthesize

WINDOW, HOP = 400, 160  # samples: 25 ms every 10 ms


class LogMelOptions(FeatureOptions):
    """The keys that an entry of `features:` may have, beside those of every kind."""

    bands: PositiveInt = 64


@extractor("log_mel")
class LogMel(Extractor):
    """Log energies of mel bands from 0 to 8 kHz, of Hann windows centred on every 10 ms."""

    Options = LogMelOptions
    frame_rate = SAMPLE_RATE / HOP

    def load(self, device: str) -> None:
        """Make the filters `(frequencies, bands)`; a model would be loaded here."""
        from transformers.audio_utils import mel_filter_bank

        bands = self.options.bands
        self.item_shape = (bands,)
        self._filters = mel_filter_bank(
            WINDOW // 2 + 1, bands, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney"
        )

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `(frames, bands)` float32 for each clip, whatever else is in the batch."""
        return [self._of(wave) for wave in batch]

    def _of(self, wave: np.ndarray) -> np.ndarray:
        windows = sliding_window_view(np.pad(wave, WINDOW // 2), WINDOW)[::HOP]
        power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW))) ** 2
        frames: np.ndarray = np.log(power @ self._filters + 1e-10).astype(np.float32)
        return frames


class TestLogMel(ExtractorConformance):
    """Run the suite: a batch equals its clips alone, a bad clip harms no neighbour, and so on."""

    layered = False  # it has no layers to choose from

    def make(self, **options: Any) -> LogMel:
        """Return the extractor, loaded."""
        made = LogMel(LogMelOptions(kind="log_mel", **options))
        made.load("cpu")
        return made


def main(folder: Path) -> None:
    """Extract a small corpus twice, verify the cache and read from it."""
    manifest = synthesize(folder, speakers=5, per_class=1)
    options = parse_options({"kind": "log_mel", "bands": 80})
    job = Job("mel", options, manifest, folder / "audio", folder / "cache")
    for _ in range(2):  # what is cached is not extracted again
        report = extract(job, "cpu")
        print(f"{report.extracted} extracted, {report.cached} cached, {len(report.failed)} failed")
    cache = FeatureCache.open(folder / "cache", "mel")
    print(f"{len(cache.verify())} damaged of {len(cache.index())}")
    utterance = manifest.utterances("dev")[0]
    frames = cache.frames(utterance)
    print(f"{utterance}: {len(frames)} frames of {frames.shape[1]} bands, {frames.dtype}")


if __name__ == "__main__":
    subprocess.run([sys.executable, "-m", "pytest", __file__], check=True)
    with TemporaryDirectory() as made:
        main(Path(made))
