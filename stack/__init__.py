"""Logits to emotion: meta-models over heads; never imports torch."""
