"""pipeline.yaml: the file, its text and its sections, read and checked."""
