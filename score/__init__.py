"""Predictions to numbers: metrics, intervals, tables; never imports torch."""
