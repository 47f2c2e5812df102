"""Presets: what each needs, and a run of one on made-up data with tiny models."""
