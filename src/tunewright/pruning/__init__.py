"""Prompt pruning: how much of the prompt a trained model can do without."""
