"""A run as one page, its tables and figures, and as a submission to the challenge."""
