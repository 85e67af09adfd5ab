"""From raw files to a dataset: read, check, split. A dataset is frozen, hashed, and knows where each row came from."""

from tunewright.data.checks import Finding
from tunewright.data.dataset import Dataset, evenly, load_dataset

__all__ = ["Dataset", "Finding", "evenly", "load_dataset"]
