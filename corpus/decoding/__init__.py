"""Decoding: the recordings in a file (`survey`), and their samples (`libsndfile`, `ffmpeg`)."""
