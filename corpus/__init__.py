"""Training data: the manifest, importers of known corpora, audio, labels, folds."""
