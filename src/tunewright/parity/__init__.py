"""Whether the served model answers as the trained one did: the same examples through every form of it."""
