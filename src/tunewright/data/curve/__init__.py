"""Learning curves of a cheap model: a forecast of what more data would gain."""
