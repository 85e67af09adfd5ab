"""Parity: whether the served model answers like the trained one, on the same examples through every form of it."""
