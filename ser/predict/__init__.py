"""Emotions of own audio, by a run that was trained: see `ser.load`."""

from ser.predict.result import Attention, Failure, Result, Segment, Word, frame

__all__ = ["Attention", "Failure", "Result", "Segment", "Word", "frame"]
