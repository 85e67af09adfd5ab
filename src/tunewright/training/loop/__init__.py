"""Training one adapter or several to the end: batches, checkpoints, validation, averaging, the sweep."""
