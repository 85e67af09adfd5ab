"""Inference: runtimes, decoding, predictors, calibration, and the reading of bundles."""
