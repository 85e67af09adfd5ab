"""Cutting a dataset into train, validation and test parts, and freezing the test."""
