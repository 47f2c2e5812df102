"""Ten-line makers of caches and of logits."""

import numpy as np

from ser.cache.features import FeatureCache
from ser.cache.logits import SplitLogits
from ser.cache.transcripts import Transcript, TranscriptCache

SPEC = {"kind": "whisper", "layer": -1, "weights": "sha256:0"}
WORDS_SPEC = {"kind": "asr", "weights": "w"}
ODD = ("a/b", "a", "..", ".", "100%", "%2F", "é ü", "x.y", "/", "a\0b")  # ids


def ragged(seed, count, dim=8, longest=40):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    return {
        f"u{i}": rng.standard_normal((n, dim)).astype(np.float32) for i, n in enumerate(lengths)
    }


def make_cache(root, data, spec=SPEC, name="whisper", **writer):
    item_shape = list(next(iter(data.values())).shape[1:])
    cache = FeatureCache.create(root, name, spec, {"item_shape": item_shape, "frame_rate": 50})
    with cache.writer(**writer) as writing:
        for utterance, frames in data.items():
            writing.append(utterance, frames, stat_hash=1, content_hash=2)
    return FeatureCache(cache.path, cache.remote)


def flip(file, position, bit=0):
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


def frames_file(cache):
    (file,) = cache.path.glob("data.zarr/*/frames/c/0/0")
    return file


def assert_same_cache(one, other):
    columns = ["utterance", "length", "crc32c", "stat", "source"]
    assert one.index()[columns].sort("utterance").equals(other.index()[columns].sort("utterance"))
    keys = one.metadata.keys() - {"created"}
    assert {k: one.metadata[k] for k in keys} == {k: other.metadata[k] for k in keys}


def make_transcripts(root, words, part_rows=2):
    cache = TranscriptCache.create(root, "asr", WORDS_SPEC, {})
    with cache.writer(part_rows) as writer:
        for utterance, text in words.items():
            writer.append(
                utterance, Transcript(text, -0.5, 0.25, "en"), stat_hash=1, content_hash=2
            )
    return TranscriptCache(cache.path)


def make_logits(split_rows=3, rows="in-sample"):
    return SplitLogits(
        utterance=[f"é{i}" for i in range(split_rows)],
        logits=np.arange(split_rows * 2, dtype=np.float32).reshape(-1, 2),
        label=np.array([0, 1, -1], np.int8)[:split_rows],
        speaker=["s1", "", "s2"][:split_rows],
        fold=np.full(split_rows, -1, np.int8),
        rows=rows,
    )


COUNT = 6_000  # utterances that the writers write which are killed


def frames_of(i):
    """Return the frames of utterance `u{i}` of a cache whose writer is killed."""
    return np.full((1 + i % 40, 4), i % 2048, np.float32)


def open_crash(root):
    """Open the cache whose writer is killed."""
    return FeatureCache.create(root, "crash", SPEC, {"item_shape": [4]})
