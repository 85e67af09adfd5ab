"""Base models: the catalogue, their chat templates, how they are found, loaded and run."""
