"""Embeddings to logits: small fusion heads trained from the cache."""
