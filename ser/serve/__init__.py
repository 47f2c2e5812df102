"""`ser serve`: a trained run behind an HTTP API and a page."""
