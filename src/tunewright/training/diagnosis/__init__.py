"""Diagnoses what went wrong in a training, from its curve, settings and data."""
