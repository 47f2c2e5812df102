"""Loading the model of a feature: what transformers may fail at, and what must be known then."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ser.corpus.errors import UserError
from ser.corpus.registry import reason
from ser.extract.extractor import Extractor, describe_class, naming_the_class

OF_TRAINING = r"(.*\.)?masked_spec_embed|objective\.weight"  # tensors that nothing else reads


def load(extractor: Extractor, name: str, device: str) -> None:
    """Load the model of a named feature.

    Raises `UserError` when its options do not fit it, for a user's class that raises anything, and
    for an extractor that does not know the shape or the rate of its frames afterwards.
    """
    try:
        with naming_the_class(extractor.options.kind, type(extractor), "loaded", "load"):
            extractor.load(device)
    except ValueError as error:
        raise UserError(f"features.{name}: {error}.") from error
    require_shape(extractor)


def require_shape(extractor: Extractor) -> None:
    """Raise `UserError` for a loaded extractor of frames without `item_shape` or `frame_rate`.

    `frame_rate` may be None, for frames at no fixed rate, but an extractor of audio must set it.
    """
    if extractor.gives != "frames":
        return
    label = describe_class(extractor.options.kind, type(extractor))
    shape = getattr(extractor, "item_shape", None)
    sizes = shape if isinstance(shape, tuple) else ()
    if len(sizes) not in (1, 2) or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise UserError(
            f"{label} has the item_shape {shape} after load; set it to (dim,), or to (layers, "
            "dim) where every layer is kept."
        )
    places = [extractor, *type(extractor).__mro__]
    declared = any("frame_rate" in vars(place) for place in places if place is not Extractor)
    rate = extractor.frame_rate
    wrong = rate is not None and (not isinstance(rate, int | float) or not 0 < rate < math.inf)
    if wrong or (extractor.reads == "audio" and not declared):
        raise UserError(
            f"{label} has the frame_rate {rate} after load; set it in Hz, or to None in the "
            "class where frames have no fixed rate."
        )


def load_whole(
    model: str,
    cls: Any,
    folder: Path,
    remedy: str = "get the model again",
    *,
    ignored: str = OF_TRAINING,
    **options: Any,
) -> Any:
    """Load a model of a class of transformers from a folder of weights.

    Args:
        model: as the user named it.
        cls: the class, which may be one of the Auto classes.
        folder: that of the weights.
        remedy: for weights without a tensor that the class has: it would be random.
        ignored: a pattern of the names of tensors that may be missing.
        options: of `from_pretrained`.

    Raises `UserError` for weights that cannot be read, or lack a tensor.
    """
    with named_errors(model):
        module, loading = cls.from_pretrained(folder, output_loading_info=True, **options)
    names = sorted(loading["missing_keys"])
    missing = [name for name in names if not re.fullmatch(ignored, name)]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{model}: its weights lack {missing[0]}{others}, which would be random; {remedy}."
        )
    return module


@contextmanager
def named_errors(model: str) -> Iterator[None]:
    """Raise as `UserError` what transformers raises for files that cannot be used."""
    try:
        yield
    except (UserError, ImportError, MemoryError):
        raise
    except Exception as error:  # each format of weights raises its own
        raise UserError(
            f"{model}: it cannot be loaded ({reason(error)}); get the model again."
        ) from error
