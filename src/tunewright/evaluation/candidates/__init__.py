"""The candidates that are compared, and the baselines beside them."""
