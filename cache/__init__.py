"""The cache between the stages: frame-level features (Zarr) and logits (HDF5)."""
