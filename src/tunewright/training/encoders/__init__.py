"""Trains encoders: a head on a whole model, all of whose weights are trained, with thousands of short texts."""
