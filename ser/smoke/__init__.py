"""Runs without a corpus: the demo, and the presets with tiny models."""
