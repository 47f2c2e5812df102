"""The utterances of other speakers for each one, in an order that depends on ids and seed alone."""

import hashlib
from bisect import bisect
from collections.abc import Iterator, Mapping


class OtherSpeakers:
    """The utterances of other speakers for each training utterance, in a reproducible order.

    `speakers` maps the training utterances to their speakers; an unknown one ("" or None) is a
    speaker of its own. The ids form a ring, ordered by their hash (Karger et al. 1997), so the
    choice does not depend on their order, and a corpus that grows by one clip changes only the few
    choices that fall to that clip.
    """

    def __init__(self, speakers: Mapping[str, str | None]) -> None:
        self._speaker = {u: f"known {s}" if s else f"only {u}" for u, s in speakers.items()}
        ring = sorted((stable_hash(u), u) for u in speakers)
        self._hashes = [place for place, _ in ring]
        self._utterances = [u for _, u in ring]

    def draw(self, utterance: str, seed: int) -> Iterator[str]:
        """Yield utterances of other speakers, each once, the drawn one first."""
        start = bisect(self._hashes, stable_hash(seed, utterance))
        for i in range(len(self._utterances)):
            other = self._utterances[(start + i) % len(self._utterances)]
            if self._speaker[other] != self._speaker[utterance]:
                yield other


def stable_hash(*parts: str | int) -> int:
    """Return a hash of these parts that is the same in every process."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
