"""The OpenAI-compatible server of bundles and folders of adapters, and batches. It needs no torch."""
