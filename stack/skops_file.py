"""A classifier without a writer of its own, kept by skops: data, and no code that runs on loading.

Forests were kept so, too; `ser.stack.skops_forest` still reads them, without skops.
"""

from pathlib import Path
from typing import Any

from ser.corpus.errors import DamagedError, UserError
from ser.stack.record import StackRecord

TRUSTED = ("sklearn", "numpy", "scipy")  # packages whose types a file may contain
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)


def write(classifier: object, path: Path) -> None:
    """Write a fitted classifier."""
    import skops.io

    skops.io.dump(classifier, path)


def read(path: Path, package: str) -> Any:
    """Read what `write` wrote.

    Raises `UserError` for types that are neither of `TRUSTED` nor of `package`, the one that the
    classifier comes from, and for a damaged file.
    """
    import skops.io

    try:
        kinds = skops.io.get_untrusted_types(file=path)
        foreign = [k for k in kinds if k.partition(".")[0] not in (*TRUSTED, package)]
        classifier = None if foreign else skops.io.load(path, trusted=kinds)
    except UNREADABLE as error:
        problem = f"skops cannot read it ({type(error).__name__})"
        raise DamagedError(path, problem, StackRecord.remedy) from error
    if foreign:
        raise UserError(
            f"{path}: it contains types from packages other than scikit-learn and the "
            f"meta-model's own ({foreign[0][:100]}); derive the meta-model from "
            "ser.stack.folds.FoldedClassifier and write its files there."
        )
    return classifier
