"""A run packed into one file, with its model card."""
