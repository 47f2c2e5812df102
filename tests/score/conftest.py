from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ser.cache.logits import HeadLogits
from tests.score.factories import write_logits


@pytest.fixture
def write_head(tmp_path: Path) -> Callable[..., HeadLogits]:
    """Write the logits of a head below `tmp_path`, as `write_logits` does."""
    return partial(write_logits, tmp_path)
