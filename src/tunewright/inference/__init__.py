"""Everything that answers: runtimes, decoding, predictors, calibration, and reading a bundle."""
