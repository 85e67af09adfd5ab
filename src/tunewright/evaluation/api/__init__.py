"""Evaluating APIs: the client, its cache and budget, the baseline step, and the judge."""
