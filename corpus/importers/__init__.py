"""Importers of known corpora: a folder in, a manifest out; one module each."""
