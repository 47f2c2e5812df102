"""What an epoch is made of: labels, draws, losses, steps."""
