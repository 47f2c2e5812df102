"""The kinds of features: what turns clips or texts into frames, a module a family of models."""
