"""Bytes flipped and cut in every container: an `AudioError` or samples, and nothing else."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ser.corpus.audio import blocks, duration, info, load
from ser.corpus.errors import AudioError
from tests.corpus.decoding.factories import encode, encode_media, noise

LIBSNDFILE = ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "MP3", "OGG", "VOC", "SVX"]
MEDIA = [("m4a", "aac"), ("webm", "libopus"), ("aac", "aac"), ("wv", "wavpack"), ("avi", "mp2")]
CASES = 12


def damaged(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    front = random.random() < 0.5  # a header is damaged as often as all that is behind it
    for _ in range(random.choice([1, 3, 30])):
        at = random.randrange(min(len(data), 120) if front else len(data))
        changed[at] = random.choice([0, 255, changed[at] ^ 1 << random.randrange(8)])
    if random.random() < 0.3:
        changed = changed[: random.randrange(1, len(changed))]
    return bytes(changed)


def survives(path: Path) -> None:
    results: list[Any] = []
    for read in (load, lambda p: list(blocks(p, 1.0)), duration, info, lambda p: load(p, 0.1, 0.3)):
        try:
            results.append(read(path))
        except AudioError as error:
            results.append(str(error))
    if isinstance(results[0], np.ndarray):
        np.testing.assert_array_equal(results[0], np.concatenate(results[1]))
        assert results[2] == pytest.approx(len(results[0]) / 16_000, abs=1e-4)


@pytest.mark.parametrize("form", LIBSNDFILE)
def test_libsndfile(tmp_path: Path, form: str) -> None:
    random, path = Random(form), tmp_path / f"a.{form.lower()}"
    data = encode(noise(0.6), 16_000, form)
    for _ in range(CASES):
        path.write_bytes(damaged(data, random))
        survives(path)


@pytest.mark.parametrize(("suffix", "codec"), MEDIA)
def test_ffmpeg(tmp_path: Path, suffix: str, codec: str) -> None:
    random, path = Random(suffix), tmp_path / f"a.{suffix}"
    form = "adts" if suffix == "aac" else None
    original = encode_media(path, noise(0.6, 48_000), 48_000, codec, form).read_bytes()
    for _ in range(CASES):
        path.write_bytes(damaged(original, random))
        survives(path)
