"""Loading the model of a feature, and what an extractor must know about its frames by then."""

import math

from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor, describe_class, naming_the_class


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
