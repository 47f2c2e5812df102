"""One pipeline.yaml per published system."""
