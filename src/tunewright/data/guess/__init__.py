"""A spec, guessed from a data file."""
