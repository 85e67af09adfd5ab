"""The training loop: batches, checkpoints, validation, averaging, the sweep."""
