"""One short name for everything that a result was made from."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def fingerprint(made_from: Mapping[str, Any]) -> str:
    """Hash a mapping of plain values: 16 hexadecimal characters.

    Key order does not matter; every value does. Values must be JSON (paths as text), so that the
    same mapping gives the same name on every machine and version of Python.
    """
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
