"""Learning curves of a cheap model: how much more data would help."""
