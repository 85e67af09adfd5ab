"""The version, for those that must not import the package's public names."""

__version__ = "0.2.0"
