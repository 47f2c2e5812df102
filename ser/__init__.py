"""Speech emotion recognition from cached foundation-model features."""

__version__ = "0.1.0"
