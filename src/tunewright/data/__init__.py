"""From raw files to a dataset: read, check, split. A dataset is frozen and hashed, and records each row's origin."""

from tunewright.core.samples import evenly
from tunewright.data.checks import Finding
from tunewright.data.dataset import Dataset, load_dataset

__all__ = ["Dataset", "Finding", "evenly", "load_dataset"]
