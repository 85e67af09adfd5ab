"""Copies and near-copies of texts, and the blocks of rows that belong together."""
