"""What is learned from: the manifest, importers of known corpora, audio, labels, folds."""
