"""Audio to embeddings: foundation models, the only stage that wants a GPU."""
