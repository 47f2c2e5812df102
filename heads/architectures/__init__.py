"""The heads: one architecture a module, registered by name."""
