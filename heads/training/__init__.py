"""Training: labels, samplers, losses, steps."""
