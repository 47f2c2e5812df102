"""`kind: imported`: features made elsewhere, which `ser cache import` adds."""

from collections.abc import Sequence

import numpy as np

from ser.extract.extractor import Extractor, extractor


@extractor("imported")
class Imported(Extractor):
    """Features made elsewhere: `ser cache import` adds them, and nothing extracts them."""

    def load(self, device: str) -> None:
        """Raise `ValueError`: there is no model."""
        raise ValueError("features of kind 'imported' are added by `ser cache import`")

    def extract(self, batch: Sequence[object]) -> list[np.ndarray]:
        """Raise `ValueError`: there is no model."""
        self.load("cpu")
        return []
