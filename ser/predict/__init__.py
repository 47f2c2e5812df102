"""A trained run predicts the emotions in any audio: see `ser.load`."""

from ser.predict.result import Attention, Failure, Result, Segment, Word, frame

__all__ = ["Attention", "Failure", "Result", "Segment", "Word", "frame"]
